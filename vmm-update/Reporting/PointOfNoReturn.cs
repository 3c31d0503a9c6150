using CprSharp.VmmUpdate.Inspection;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>From when on an update can only go forward, because the old VMM can no longer resume the guest.</summary>
/// <param name="Phase">The phase at whose end that is (transfer), or at whose beginning (commit).</param>
/// <param name="Why">What makes it so.</param>
public sealed record PointOfNoReturn(UpdatePhase Phase, string Why)
{
    internal static PointOfNoReturn Of(VmInspection vm, bool completionIsFinal) => completionIsFinal
        ? new PointOfNoReturn(
            UpdatePhase.Transfer,
            $"when the old VMM reports completion: under {vm.Accelerator.ToUpperInvariant()} it then lets go of its virtual CPUs and of {string.Join(", ", vm.PassedThrough.Select(d => d.Name))}, and cannot resume; by then the new one has shown that it has the whole guest")
        : new PointOfNoReturn(UpdatePhase.Commit, "when the new VMM is told to go on; until then the old one can resume");
}
