using System.Collections.Immutable;
using CprSharp.Iommufd;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Everything a check found, and what each engine makes of it.</summary>
internal sealed record CheckResult(ImmutableArray<Finding> Findings, ImmutableArray<(IEngine Engine, EngineAssessment Assessment)> Engines)
{
    public ImmutableArray<EngineAssessment> Assessments => [.. Engines.Select(e => e.Assessment)];
}

/// <summary>Looks at a VM and a binary without touching either.</summary>
internal sealed class VmChecker(IVmHost host)
{
    /// <summary>CAP_IPC_LOCK, as a bit.</summary>
    private const ulong IpcLock = 1UL << 14;

    /// <param name="inspection">The VM as it was just read.</param>
    /// <param name="target">The binary.</param>
    /// <param name="rehearse">Start the binary once on the VM's real command line with memory of its own. An update does without: its Prepare phase does the same on the real thing.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<CheckResult> CheckAsync(VmInspection inspection, QemuBinary target, bool rehearse, CancellationToken cancellationToken)
    {
        inspection = inspection with
        {
            InPlace = InPlaceFacts.Read(host.Current.Pid, [.. host.HeldDescriptors.Select(d => d.Number), VmmLauncher.MonitorDescriptor]) with { IsAdopted = host.IsAdopted },
            LostDeviceMemory = host.DeviceMemory.Lost(),
        };
        var findings = new List<Finding>();
        findings.AddRange(VmRules.Check(inspection, target));
        findings.AddRange(DeviceRules.Check(inspection));
        findings.AddRange(PassThroughRules.Check(inspection, target, IommufdContext.Probe()));
        if (!inspection.PassedThrough.IsEmpty)
            findings.AddRange(LockedMemory(inspection, host.Current.Pid));
        findings.AddRange(host.SpecFindings);
        findings.AddRange(HostRules.Check(host, inspection));
        if (target.HasMachine(inspection.MachineType))
        {
            findings.AddRange(await VmStateCheck.RunAsync(inspection, target, cancellationToken));
            if (rehearse && !inspection.PassedThrough.IsEmpty)
                findings.Add(Finding.Pass("rehearsal", target.Path, "not rehearsed: the passed-through devices are in use; an update builds and compares the machine before the pause"));
            else if (rehearse && !findings.Exists(f => f.Severity == Severity.Fail))
                findings.AddRange(await Rehearsal.RunAsync(host, inspection, target, cancellationToken));
        }

        return new CheckResult([.. findings], [.. EngineCatalog.Create().Select(e => (e, Assess(e, inspection, target)))]);
    }

    private static IEnumerable<Finding> LockedMemory(VmInspection inspection, int vmm) => PassThroughRules.CheckLockedMemory(
        inspection, Scheduling.GetLimit(vmm, Resource.LockedMemory).Soft, exempt: (ProcFs.Status(vmm).Capabilities.Effective & IpcLock) != 0);

    private static EngineAssessment Assess(IEngine engine, VmInspection inspection, QemuBinary target) =>
        engine.Assess(inspection, target) is var assessment && assessment.Eligible
            ? assessment with { PointOfNoReturn = engine.PointOfNoReturn(inspection) }
            : assessment;
}
