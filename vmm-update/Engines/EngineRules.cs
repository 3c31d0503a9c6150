using System.Collections.Immutable;
using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>What the engines share: rules that hold for both, and the shape of a channel.</summary>
internal static class EngineRules
{
    public static IEnumerable<string> Common(VmInspection vm, QemuBinary target)
    {
        if (!target.HasMachine(vm.MachineType))
            yield return $"QEMU {target.Version} has no machine type '{vm.MachineType}'";
    }

    public static EngineAssessment Verdict(string name, List<string> reasons, VmInspection vm, double basePauseMs) =>
        reasons.Count > 0
            ? new EngineAssessment(name, Eligible: false, [.. reasons], ExpectedPauseMs: null)
            : new EngineAssessment(name, Eligible: true, ImmutableArray<string>.Empty, ExpectedPause(vm, basePauseMs));

    public static JsonObject MainChannel(Switchover switchover, QemuBinary speaker) =>
        speaker.HasChannels
            ? new JsonObject { ["channels"] = new JsonArray(new JsonObject { ["channel-type"] = "main", ["addr"] = switchover.MigrationAddress() }) }
            : new JsonObject { ["uri"] = $"unix:{switchover.MigrationSocket}" };

    /// <summary>What blocks a migration depends on its mode, which only now is the one that will be used.</summary>
    /// <exception cref="UpdateException">Something does: a refusal.</exception>
    public static async Task RequireNotBlockedAsync(Vmm vmm, string mode, CancellationToken cancellationToken)
    {
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        if (migration.TryGetProperty("blocked-reasons", out var reasons) && reasons.GetArrayLength() > 0)
        {
            throw new UpdateException(
                "migration-blocked", $"QEMU itself refuses {mode}: {string.Join("; ", reasons.EnumerateArray().Select(r => r.GetString()))}", "remove what it names")
            {
                IsRefusal = true,
            };
        }
    }

    /// <summary>Measured: each PCI device costs about a millisecond of loading, each further vCPU about half of one.</summary>
    private static double ExpectedPause(VmInspection vm, double basePauseMs) =>
        Math.Round(basePauseMs + (1.0 * vm.PciDevices.Count(d => !d.IsBridge)) + (0.5 * Math.Max(0, vm.CpuCount - 1)), 1);
}
