using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>An ordinary migration on one host in which guest RAM is a named file that both VMMs map, so that only device state moves.</summary>
/// <remarks>
/// Capability <c>x-ignore-shared</c> (QEMU ≥ 4.0) skips RAM blocks that are shared <em>and</em> named files (<c>migration/ram.c</c>,
/// <c>migrate_ram_is_ignored</c>). Works between any two versions that share a machine type, backwards too.
/// </remarks>
internal sealed class SharedRamEngine : IUpdateEngine
{
    private static readonly string[] Capabilities = ["x-ignore-shared", "return-path", "events", "multifd", "postcopy-ram", "auto-converge"];
    private static readonly string[] Parameters = ["mode", "max-bandwidth", "downtime-limit"];

    private readonly MigrationSettingsKeeper _before = new();

    public string Name => "shared-ram";

    public EngineAssessment Assess(VmInspection vm, QemuBinary target)
    {
        var reasons = EngineRules.Common(vm, target).ToList();
        if (PassThroughRules.NotWithout(vm) is { } devices)
            reasons.Add(devices);
        reasons.AddRange(vm.MemoryBackends
            .Where(b => !(b.Shared && b.IsNamedFile))
            .Select(b => $"memory backend '{b.Id}' is not a shared named file (memory-backend-file,share=on), so its pages would be copied"));
        return EngineRules.Verdict(Name, reasons, vm, basePauseMs: 4.0);
    }

    public EngineStart Start(Switchover switchover) => new(["-incoming", "defer"], []);

    public async Task PrepareAsync(Switchover switchover, CancellationToken cancellationToken)
    {
        await switchover.New.ConnectAsync(cancellationToken);
        await _before.ReadOldAsync(switchover.Old, cancellationToken);
        await _before.ReadNewAsync(switchover.New, cancellationToken);
        await MigrationSettings.SetCapabilitiesAsync(switchover.New, [("x-ignore-shared", true), ("events", true), ("return-path", switchover.AwaitsLoad)], cancellationToken);
        await MigrationSettings.SetCapabilitiesAsync(
            switchover.Old,
            [("multifd", false), ("postcopy-ram", false), ("auto-converge", false), ("x-ignore-shared", true), ("events", true), ("return-path", switchover.AwaitsLoad)],
            cancellationToken);

        // What is left of RAM (video memory, option ROMs) is sent while the guest runs, as often as it takes for the rest to fit into a
        // millisecond; the default of 300 ms would put all of it into the pause.
        await switchover.Old.ExecuteAsync(
            "migrate-set-parameters",
            switchover.OldFacts.HasMigrationMode("normal")
                ? new JsonObject { ["mode"] = "normal", ["max-bandwidth"] = 0L, ["downtime-limit"] = 1 }
                : new JsonObject { ["max-bandwidth"] = 0L, ["downtime-limit"] = 1 },
            cancellationToken);
        await switchover.New.ExecuteAsync("migrate-incoming", EngineRules.MainChannel(switchover, switchover.NewFacts), cancellationToken);
    }

    public Task BeginAsync(Switchover switchover, CancellationToken cancellationToken) =>
        switchover.Old.ExecuteAsync("migrate", EngineRules.MainChannel(switchover, switchover.OldFacts), cancellationToken);

    /// <summary>A guest that writes to its video memory faster than it can be sent never gets down to a millisecond.</summary>
    public Task HurryAsync(Switchover switchover, CancellationToken cancellationToken) =>
        switchover.Old.ExecuteAsync("migrate-set-parameters", new JsonObject { ["downtime-limit"] = 300 }, cancellationToken);

    public Task RestoreAsync(Vmm survivor, CancellationToken cancellationToken) =>
        _before.RestoreAsync(survivor, Capabilities, Parameters, cancellationToken);
}
