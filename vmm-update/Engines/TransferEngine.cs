using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>QEMU's <c>cpr-transfer</c>: the old VMM passes its descriptors over the cpr channel, then device state over the main one.</summary>
/// <remarks>
/// <c>docs/devel/migration/CPR.rst</c>. The new VMM is started with <c>-incoming defer</c>: it takes the descriptors and builds its
/// machine while the guest runs, and the old VMM waits with the pause until <c>migrate-incoming</c> closes the cpr channel.
/// </remarks>
internal sealed class TransferEngine : IUpdateEngine, IDisposable
{
    /// <summary>The number at which the new VMM finds the cpr channel's listening socket (QEMU ≥ 10.2).</summary>
    private const int CprDescriptor = 191;

    private static readonly string[] Capabilities = ["return-path", "events", "x-ignore-shared", "multifd", "postcopy-ram", "background-snapshot"];
    private static readonly string[] Parameters = ["mode"];

    private readonly MigrationSettingsKeeper _before = new();
    private readonly PassThroughHandover _devices = new();

    public string Name => "transfer";

    public EngineAssessment Assess(VmInspection vm, QemuBinary target)
    {
        var reasons = EngineRules.Common(vm, target).ToList();
        if (!vm.Facts.HasMigrationMode("cpr-transfer"))
            reasons.Add($"QEMU {vm.Facts.Version} has no migration mode cpr-transfer (10.0 or later has)");
        if (!target.HasMigrationMode("cpr-transfer"))
            reasons.Add($"QEMU {target.Version} has no migration mode cpr-transfer (10.0 or later has)");
        if (target.Version < vm.Facts.Version && !target.Version.SameFeatureRelease(vm.Facts.Version))
            reasons.Add($"the cpr state of QEMU {vm.Facts.Version} cannot be read by the older {target.Version}");
        if (!vm.AuxRamShared)
            reasons.Add("the machine was started without aux-ram-share=on, so video memory and option ROMs are private to the old process");
        reasons.AddRange(vm.LostDeviceMemory);
        reasons.AddRange(vm.MemoryBackends
            .Where(b => !b.Shared)
            .Select(b => $"memory backend '{b.Id}' is not shared (share=on)"));
        return EngineRules.Verdict(Name, reasons, vm, basePauseMs: 5.0);
    }

    public EngineStart Start(Switchover switchover)
    {
        if (!TakesDescriptorChannel(switchover.NewFacts))
        {
            return new EngineStart(
                ["-incoming", "defer", "-incoming", Channel("unix", "path", switchover.CprSocket)],
                []);
        }

        // A duplicate: a Socket that nobody refers to any more takes its handle with it at the next garbage collection.
        using var listener = UnixSocket.Listen(switchover.CprSocket, 1, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        return new EngineStart(
            ["-incoming", "defer", "-incoming", Channel("fd", "str", CprDescriptor.ToString(System.Globalization.CultureInfo.InvariantCulture))],
            [new InheritedDescriptor(Descriptor.Duplicate(listener.SafeHandle), CprDescriptor)]);
    }

    public async Task PrepareAsync(Switchover switchover, CancellationToken cancellationToken)
    {
        if (!TakesDescriptorChannel(switchover.NewFacts))
            await ListeningSocket.WaitAsync(switchover.CprSocket, switchover.New, cancellationToken);

        await _before.ReadOldAsync(switchover.Old, cancellationToken);
        await MigrationSettings.SetCapabilitiesAsync(
            switchover.Old,
            [("multifd", false), ("postcopy-ram", false), ("x-ignore-shared", false), ("events", true), ("return-path", switchover.AwaitsLoad)],
            cancellationToken);
        await switchover.Old.ExecuteAsync("migrate-set-parameters", new JsonObject { ["mode"] = "cpr-transfer" }, cancellationToken);
        await EngineRules.RequireNotBlockedAsync(switchover.Old, "cpr-transfer", cancellationToken);

        // The new VMM tries IOMMU_IOAS_CHANGE_PROCESS when it opens its devices, and where that fails does not take part in the hand-over
        // (hw/vfio/cpr-iommufd.c, vfio_cpr_supported); so the BARs must be out before it gets the descriptors.
        await _devices.TakeOutAsync(switchover.Old, switchover.Vm.PassedThrough, switchover.NoteTakenOut, cancellationToken);
        using (await _devices.GuardAsync(switchover.New))
        {
            await switchover.Old.ExecuteAsync(
                "migrate",
                new JsonObject
                {
                    ["channels"] = new JsonArray(
                        new JsonObject { ["channel-type"] = "main", ["addr"] = switchover.MigrationAddress() },
                        new JsonObject
                        {
                            ["channel-type"] = "cpr",
                            ["addr"] = new JsonObject { ["transport"] = "socket", ["type"] = "unix", ["path"] = switchover.CprSocket },
                        }),
                },
                cancellationToken);

            // Only now does the new VMM read its descriptors, build its machine and open its monitor.
            await switchover.New.ConnectAsync(cancellationToken);
        }

        await _before.ReadNewAsync(switchover.New, cancellationToken);
        await MigrationSettings.SetCapabilitiesAsync(switchover.New, [("events", true), ("return-path", switchover.AwaitsLoad)], cancellationToken);
    }

    public bool CompletionIsFinal(VmInspection vm) => PassThroughRules.OldCannotResume(vm);

    public async Task BeginAsync(Switchover switchover, CancellationToken cancellationToken)
    {
        await _devices.TakeOutMovedAsync(switchover.Old, cancellationToken);
        await switchover.New.ExecuteAsync("migrate-incoming", EngineRules.MainChannel(switchover, switchover.NewFacts), cancellationToken);
    }

    public Task<IReadOnlyList<Finding>> SettleAsync(Vmm survivor, CancellationToken cancellationToken) => _devices.PutBackAsync(survivor, cancellationToken);

    public void Dispose() => _devices.Dispose();

    public Task HurryAsync(Switchover switchover, CancellationToken cancellationToken) => Task.CompletedTask;

    public Task RestoreAsync(Vmm survivor, CancellationToken cancellationToken) =>
        _before.RestoreAsync(survivor, Capabilities, Parameters, cancellationToken);

    private static bool TakesDescriptorChannel(QemuBinary target) => target.Version.AtLeast(10, 2);

    private static string Channel(string type, string key, string value) =>
        new JsonObject
        {
            ["channel-type"] = "cpr",
            ["addr"] = new JsonObject { ["transport"] = "socket", ["type"] = type, [key] = value },
        }.ToJsonString();
}
