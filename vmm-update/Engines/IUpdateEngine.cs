using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>One way to move a guest from a VMM to another on the same host. The orchestrator knows the engines only by this.</summary>
internal interface IUpdateEngine : IEngine
{
    /// <summary>What the new VMM's command line needs beyond the VM's own, and the descriptors it names. Called before the process is started.</summary>
    EngineStart Start(Switchover switchover);

    /// <summary>Brings the new VMM to the point where it answers on QMP with its machine built, while the guest runs on the old one.</summary>
    Task PrepareAsync(Switchover switchover, CancellationToken cancellationToken);

    /// <summary>The guest's way back ends at Commit; or earlier, when the old VMM reports completion, because it cannot resume after that.</summary>
    bool CompletionIsFinal(VmInspection vm) => false;

    PointOfNoReturn IEngine.PointOfNoReturn(VmInspection vm) => Reporting.PointOfNoReturn.Of(vm, CompletionIsFinal(vm));

    /// <summary>Asks for the switch-over. From here on the old VMM stops the guest and sends its state.</summary>
    Task BeginAsync(Switchover switchover, CancellationToken cancellationToken);

    /// <summary>Called when the old VMM has not stopped the guest some time after <see cref="BeginAsync"/>: settle for a longer pause.</summary>
    Task HurryAsync(Switchover switchover, CancellationToken cancellationToken);
}

/// <summary>What an engine adds to the start of the new VMM. Owns its descriptors until the process is started.</summary>
/// <param name="Arguments">Added to the command line.</param>
/// <param name="Descriptors">Given to the process.</param>
internal sealed record EngineStart(IReadOnlyList<string> Arguments, IReadOnlyList<Memfd.InheritedDescriptor> Descriptors) : IDisposable
{
    /// <summary>Its environment; null for that of the VMM that runs.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    public void Dispose()
    {
        foreach (var descriptor in Descriptors)
            descriptor.Handle.Dispose();
    }
}

/// <summary>The two VMMs of one update and where their sockets are.</summary>
internal sealed class Switchover(VmDirectory directory, Vmm old, int newGeneration, VmInspection vm, QemuBinary newFacts)
{
    /// <summary>The VM as it was inspected.</summary>
    public VmInspection Vm { get; } = vm;

    /// <summary>Whether the guest ran when the update began, and so runs after it.</summary>
    public bool WasRunning => Vm.IsRunning;

    public VmDirectory Directory { get; } = directory;

    public Vmm Old { get; } = old;

    public QemuBinary OldFacts { get; } = vm.Facts;

    public QemuBinary NewFacts { get; } = newFacts;

    public int NewGeneration { get; } = newGeneration;

    /// <summary>The new VMM; set once its process exists.</summary>
    public Vmm New { get => _new ?? throw new InvalidOperationException("the new VMM has not been started"); set => _new = value; }

    public bool HasNew => _new is not null;

    /// <summary>Writes down, before it is done, what is taken out of the devices' address spaces until the guest has settled.</summary>
    public Action<IReadOnlyList<PassThrough.TakenOutBar>>? NoteTakenOut { get; init; }

    /// <summary>
    /// Whether the new VMM has to be seen to be whole before it is told to go on, for which the old one waits with its completion, too (capability
    /// <c>return-path</c>): where completion is final; where the guest stays paused; and where there are tap devices, which the new VMM gets when it
    /// has loaded.
    /// </summary>
    public bool AwaitsLoad { get; init; }

    public string MigrationSocket => Directory.MigrationSocket(NewGeneration);

    public string CprSocket => Directory.CprSocket(NewGeneration);

    private Vmm? _new;

    public JsonObject MigrationAddress() => new()
    {
        ["transport"] = "socket",
        ["type"] = "unix",
        ["path"] = MigrationSocket,
    };
}
