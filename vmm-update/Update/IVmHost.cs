using CprSharp.Memfd;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What an update needs of whoever supervises the VM.</summary>
internal interface IVmHost
{
    VmDirectory Directory { get; }

    /// <summary>The VMM that runs the guest.</summary>
    Vmm Current { get; }

    /// <summary>What it counts on of devices that were unplugged.</summary>
    DeviceMemory DeviceMemory { get; }

    /// <summary>Whether the VM was started by somebody else.</summary>
    bool IsAdopted { get; }

    /// <summary>The command line of the VMM an update goes to, from the VM as it is now.</summary>
    IReadOnlyList<string> TargetArguments(QemuBinary binary);

    /// <summary>The descriptors that every VMM of this VM gets.</summary>
    IReadOnlyList<InheritedDescriptor> HeldDescriptors { get; }

    /// <summary>Descriptors like <see cref="HeldDescriptors"/>, of the same numbers and sizes, that have nothing to do with the running VM.</summary>
    IReadOnlyList<InheritedDescriptor> CreateRehearsalDescriptors(VmDirectory scratch);

    /// <summary>What the VM's command line says about its updates.</summary>
    IReadOnlyList<Finding> SpecFindings { get; }

    /// <summary>Starts a VMM for this VM with what the current one has of user, limits, cgroup and the like.</summary>
    Vmm StartVmm(int generation, QemuBinary binary, EngineStart engine);

    /// <summary>What the current VMM's process is to become: this binary, waiting for its state.</summary>
    IReadOnlyList<string> InPlaceCommand(QemuBinary binary);

    /// <summary>Gives the new VMM the scheduling, CPU affinity, limits and cgroup of the current one, as they are now.</summary>
    Task<IReadOnlyList<Finding>> MatchProcessAsync(Vmm fresh, CancellationToken cancellationToken);

    /// <summary>Sets in the new VMM what clients have set in those before it by QMP.</summary>
    Task<IReadOnlyList<Finding>> RepeatSettingsAsync(Vmm fresh, CancellationToken cancellationToken);

    /// <summary>Connects the consoles' clients to the new VMM, too.</summary>
    Task PrepareConsolesAsync(Vmm fresh, CancellationToken cancellationToken);

    /// <summary>Keeps open what the old VMM listens on and the new one is to listen on after it, until the hold on changes ends.</summary>
    Task HoldListenersAsync(Vmm old, CancellationToken cancellationToken);

    /// <summary>Gives the old VMM what it needs for <see cref="DivertNetworkAsync"/>.</summary>
    Task PrepareNetworkAsync(Vmm old, CancellationToken cancellationToken);

    /// <summary>Takes the tap devices from the old VMM, which is about to stop the guest: frames for it wait from now on, its own go out.</summary>
    Task DivertNetworkAsync(Vmm old);

    /// <summary>Whether there are tap devices. A VMM that loads enables and disables their queues, and must do so on its stand-ins.</summary>
    bool HasTaps { get; }

    /// <summary>Who sets threads to real time where we may not; null when nobody does.</summary>
    Supervision.RealTimeLoan? RealTime { get; }

    /// <summary>Gives the tap devices to the new VMM, which has loaded the guest and is about to run it.</summary>
    Task ConnectNetworkAsync(Vmm fresh);

    /// <summary>Gives them back to the old VMM, which keeps the guest.</summary>
    Task ReturnNetworkAsync(Vmm old, CancellationToken cancellationToken);

    /// <summary>What of the guest's network was lost in the exchange, after either of the two and since this was last asked; null when nothing was.</summary>
    Finding? TakeNetworkLoss();

    /// <summary>Holds back clients' commands that could change the machine, until disposed. Queries go on.</summary>
    Task<IDisposable> HoldChangesAsync(CancellationToken cancellationToken);

    /// <summary>Holds back all clients' commands, consoles' bytes and the events of the switch-over, until <see cref="ReleaseClients"/>.</summary>
    void HoldClients();

    /// <summary>Lets clients go on, on <see cref="Current"/>.</summary>
    void ReleaseClients();

    /// <summary>The guest now runs on this VMM.</summary>
    /// <param name="fresh">The VMM.</param>
    /// <param name="isReturn">Whether it is of the binary that the guest came from.</param>
    void Switch(Vmm fresh, bool isReturn = false);

    /// <summary>Actions that the new VMM can take only once the old one has let go of a port or a path.</summary>
    Task<IReadOnlyList<Finding>> AfterCommitAsync(Vmm fresh, CancellationToken cancellationToken);

    /// <summary>Writes the record of what runs. Called outside the pause.</summary>
    void SaveRecord();

    /// <summary>Notes durably that an update is under way, or (null) that none is.</summary>
    void SaveJournal(UpdateJournal? journal);

    /// <summary>Notes, at next to no cost, what comes now.</summary>
    void Mark(SwitchStep step);

    /// <summary>Facts of a binary, cached by its identity on disk.</summary>
    Task<QemuBinary> FactsAsync(string binary, CancellationToken cancellationToken);
}
