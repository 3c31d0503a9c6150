using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>One way to put another VMM under a guest. <see cref="IUpdateEngine"/> has two processes, <see cref="IInPlaceEngine"/> one.</summary>
internal interface IEngine
{
    /// <summary>The name operators use.</summary>
    string Name { get; }

    /// <summary>Whether <c>auto</c> may choose it.</summary>
    bool IsAutomatic => true;

    /// <summary>Pure: could this engine make the update, and why or why not.</summary>
    EngineAssessment Assess(VmInspection vm, QemuBinary target);

    /// <summary>The last moment at which the old VMM can resume the guest, for people.</summary>
    PointOfNoReturn PointOfNoReturn(VmInspection vm);

    /// <summary>Called as soon as it is settled which VMM keeps the guest: after Commit, or on the way back before the old one resumes.</summary>
    /// <returns>What is not as it was before.</returns>
    Task<IReadOnlyList<Finding>> SettleAsync(Vmm survivor, CancellationToken cancellationToken) => Task.FromResult<IReadOnlyList<Finding>>([]);

    /// <summary>Puts the migration settings of the VMM that keeps the guest back to what they were before Prepare: an operator's later migration to
    /// another host must not find <c>x-ignore-shared</c> or a cpr mode set.</summary>
    Task RestoreAsync(Vmm survivor, CancellationToken cancellationToken);
}
