using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>QEMU's <c>cpr-exec</c>: saves device state to a file and executes the new program in the same process, so that PID, cgroup and container stay.</summary>
/// <remarks>
/// <c>docs/devel/migration/CPR.rst</c>, <c>migration/cpr-exec.c</c>. All of the new program's start is in the pause, and there is no program to go
/// back to while it starts; so <c>auto</c> never takes it. QEMU's blockers for private RAM, guest_memfd and devices without an id know only
/// <c>cpr-transfer</c> (10.2 to 11.1): they are rules here.
/// </remarks>
internal sealed class ExecEngine : IInPlaceEngine, IDisposable
{
    /// <summary>How QEMU names its migration mode.</summary>
    public const string Mode = "cpr-exec";

    /// <summary>Measured: 72 ms of QEMU's start, 5 ms of saving and loading.</summary>
    private const double BasePauseMs = 77;

    private static readonly string[] Capabilities = ["return-path", "events", "x-ignore-shared", "multifd", "postcopy-ram", "background-snapshot", PauseBeforeSwitchover];

    /// <summary>A program that ends at once would have taken its cpr state with it before there is a duplicate: QEMU waits until there is.</summary>
    private const string PauseBeforeSwitchover = "pause-before-switchover";

    private readonly PassThroughHandover _devices = new();
    private MigrationSettings? _before;

    public string Name => "exec";

    public bool IsAutomatic => false;

    public EngineAssessment Assess(VmInspection vm, QemuBinary target)
    {
        var reasons = EngineRules.Common(vm, target).ToList();
        reasons.AddRange(new[] { vm.Facts, target }.DistinctBy(b => b.Version).Where(b => !b.HasMigrationMode(Mode))
            .Select(b => $"QEMU {b.Version} has no migration mode cpr-exec (10.2 or later has)"));
        if (target.Version < vm.Facts.Version && !target.Version.SameFeatureRelease(vm.Facts.Version))
            reasons.Add($"the cpr state of QEMU {vm.Facts.Version} cannot be read by the older {target.Version}");
        if (!vm.AuxRamShared)
            reasons.Add("the machine was started without aux-ram-share=on, so video memory and option ROMs are private to the program");
        reasons.AddRange(vm.LostDeviceMemory);
        reasons.AddRange(vm.MemoryBackends.Where(b => !b.Shared).Select(b => $"memory backend '{b.Id}' is not shared (share=on), so its pages end with the program"));
        if (vm.InPlace.HasGuestMemfd)
            reasons.Add("guest memory is in guest_memfd, which ends with the program's KVM");
        reasons.AddRange(vm.PassedThrough.Where(d => !d.HasFunctionLevelReset)
            .Select(d => $"passed-through device {d.Name} has no function-level reset, and a program that starts resets it in another way (engine transfer keeps it from that)"));
        if (!vm.InPlace.Taps.IsEmpty)
            reasons.Add($"tap devices ({string.Join(", ", vm.InPlace.Taps)}) are not yet carried through an exec");
        if (vm.InPlace.MayNotExec)
            reasons.Add("QEMU runs with -sandbox spawn=deny, which forbids it to execute a program");
        if (vm.InPlace.IsAdopted)
            reasons.Add("the VM was adopted: if its new program failed, the old one could not be started anew as what it was");
        if (!vm.InPlace.ClosedByExec.IsEmpty)
        {
            reasons.Add(
                $"descriptors {string.Join(", ", vm.InPlace.ClosedByExec)} of the VMM would not outlast the exec: it was not started by `cprsharp run`; an update with another engine gives it such as do");
        }

        return EngineRules.Verdict(Name, reasons, vm, BasePauseMs);
    }

    public PointOfNoReturn PointOfNoReturn(VmInspection vm) => new(
        UpdatePhase.Transfer,
        "the exec: the old program is gone before the new one has the guest. Where the new one then fails, the old binary is started anew on the same memory, as another process");

    public async Task PrepareAsync(
        Vmm vmm, VmInspection inspection, IReadOnlyList<string> command, Action<IReadOnlyList<TakenOutBar>> noteTakenOut, CancellationToken cancellationToken)
    {
        _before = await MigrationSettings.ReadAsync(vmm, cancellationToken);
        await MigrationSettings.SetCapabilitiesAsync(
            vmm,
            [("multifd", false), ("postcopy-ram", false), ("background-snapshot", false), ("x-ignore-shared", false), ("return-path", false), ("events", true), (PauseBeforeSwitchover, true)],
            cancellationToken);
        await vmm.ExecuteAsync(
            "migrate-set-parameters",
            new JsonObject { ["mode"] = Mode, ["cpr-exec-command"] = new JsonArray([.. command.Select(c => (JsonNode)c)]) },
            cancellationToken);
        await EngineRules.RequireNotBlockedAsync(vmm, Mode, cancellationToken);
        await _devices.TakeOutAsync(vmm, inspection.PassedThrough, noteTakenOut, cancellationToken);
    }

    public Task<IReadOnlyList<Finding>> SettleAsync(Vmm survivor, CancellationToken cancellationToken) => _devices.PutBackAsync(survivor, cancellationToken);

    public void Dispose() => _devices.Dispose();

    public async Task BeginAsync(Vmm vmm, string stateFile, CancellationToken cancellationToken)
    {
        await _devices.TakeOutMovedAsync(vmm, cancellationToken);
        await vmm.ExecuteAsync("migrate", Channel(stateFile), cancellationToken);
    }

    public Task ContinueAsync(Vmm vmm, CancellationToken cancellationToken) =>
        vmm.ExecuteAsync("migrate-continue", new JsonObject { ["state"] = "pre-switchover" }, cancellationToken);

    public async Task LoadAsync(Vmm vmm, string stateFile, CancellationToken cancellationToken)
    {
        await MigrationSettings.SetCapabilitiesAsync(vmm, [("events", true)], cancellationToken);
        using var events = vmm.Qmp.Subscribe("MIGRATION");
        await vmm.ExecuteAsync("migrate-incoming", Channel(stateFile), cancellationToken);
        while (true)
        {
            var status = (await events.NextAsync(cancellationToken)).Data.GetProperty("status").GetString();
            if (status == "completed")
                return;
            if (status == "failed")
                throw new UpdateException("load-failed", $"the new program could not load the state: {vmm.LogTail()}", "see the VMM's log");
        }
    }

    public async Task RestoreAsync(Vmm survivor, CancellationToken cancellationToken)
    {
        if (_before is not { } before)
            return;

        // Not one that a later exec would run by surprise.
        await survivor.ExecuteAsync("migrate-set-parameters", new JsonObject { ["mode"] = "normal", ["cpr-exec-command"] = new JsonArray() }, cancellationToken);
        await before.RestoreAsync(survivor, Capabilities, ["mode"], cancellationToken);
    }

    private static JsonObject Channel(string stateFile) => new()
    {
        ["channels"] = new JsonArray(new JsonObject
        {
            ["channel-type"] = "main",
            ["addr"] = new JsonObject { ["transport"] = "file", ["filename"] = stateFile, ["offset"] = 0 },
        }),
    };
}
