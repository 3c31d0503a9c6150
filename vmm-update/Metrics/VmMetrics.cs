using System.Collections.Immutable;
using System.Text.Json;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Metrics;

/// <summary>What is known of one VM.</summary>
/// <param name="Status">Its status.</param>
/// <param name="Updates">Its updates.</param>
/// <param name="SupervisorMemory">Resident memory of its supervisor in bytes; null when it has none.</param>
/// <param name="VmmMemory">Resident memory of its VMM in bytes, guest RAM included; null when it has none.</param>
internal sealed record MeasuredVm(StatusReport Status, ImmutableArray<UpdateReport> Updates, long? SupervisorMemory, long? VmmMemory);

/// <summary>Makes numbers of VMs. Names follow Prometheus' conventions: base units, <c>_total</c> for counters.</summary>
internal static class VmMetrics
{
    /// <summary>Upper bounds in seconds.</summary>
    private static readonly double[] PauseBuckets = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

    private static readonly UpdateOutcome[] Outcomes =
        [UpdateOutcome.Updated, UpdateOutcome.Refused, UpdateOutcome.Failed, UpdateOutcome.RolledBack, UpdateOutcome.Unknown];

    public static ImmutableArray<MetricFamily> Of(IReadOnlyCollection<MeasuredVm> vms) =>
    [
        new("cprsharp_build_info", MetricType.Gauge, "The cprsharp that wrote this; always 1.", [new("", [new("version", ProgramIdentity.OwnVersion)], 1)]),
        new("cprsharp_vms", MetricType.Gauge, "VMs by supervision.",
            [.. new[] { "supervised", "unsupervised", "gone" }.Select(s => new Sample("", [new("supervision", s)], vms.Count(v => v.Status.Supervision == s)))]),
        Each("cprsharp_vm_info", MetricType.Gauge, "What a VM runs on; always 1.", vms, v =>
        [
            new("", [Vm(v), new("qemu_version", v.Status.Vmm.Version), new("binary", v.Status.Vmm.Binary), new("machine", v.Status.MachineType)], 1),
        ]),
        Each("cprsharp_vm_supervised", MetricType.Gauge, "Whether the VM's supervisor answers.", vms, v => [One(v, v.Status.Supervision == "supervised" ? 1 : 0)]),
        Each("cprsharp_vm_running", MetricType.Gauge, "Whether the guest is known to run, or to be under update.", vms, v => [One(v, v.Status.RunState is "running" or "updating" ? 1 : 0)]),
        Each("cprsharp_supervisor_resident_memory_bytes", MetricType.Gauge, "Resident memory of the VM's supervisor.", vms, v => Maybe(v, v.SupervisorMemory)),
        Each("cprsharp_vmm_resident_memory_bytes", MetricType.Gauge, "Resident memory of the VM's VMM, guest RAM included.", vms, v => Maybe(v, v.VmmMemory)),
        Each("cprsharp_updates_total", MetricType.Counter, "Updates since the VM started, by outcome.", vms, v =>
            [.. Outcomes.Select(o => new Sample("", [Vm(v), new("outcome", JsonNamingPolicy.SnakeCaseLower.ConvertName(o.ToString()))], v.Updates.Count(u => u.Outcome == o)))]),
        Each("cprsharp_update_pause_seconds", MetricType.Histogram, "How long updates paused the guest, failed ones included.", vms, Pauses),
        Each("cprsharp_update_last_pause_seconds", MetricType.Gauge, "How long the last update paused the guest.", vms, v => Maybe(v, Last(v)?.PauseMs / 1000)),
        Each("cprsharp_update_last_duration_seconds", MetricType.Gauge, "How long the last update took.", vms, v => Maybe(v, Last(v)?.TotalMs / 1000)),
        Each("cprsharp_update_last_timestamp_seconds", MetricType.Gauge, "When the last update began, in seconds since 1970.", vms, v => Maybe(v, Last(v)?.Started.ToUnixTimeMilliseconds() / 1000.0)),
    ];

    private static MetricFamily Each(string name, MetricType type, string help, IReadOnlyCollection<MeasuredVm> vms, Func<MeasuredVm, IEnumerable<Sample>> samples) =>
        new(name, type, help, [.. vms.SelectMany(samples)]);

    private static IEnumerable<Sample> Pauses(MeasuredVm vm)
    {
        var pauses = vm.Updates.Select(u => u.PauseMs / 1000).OfType<double>().ToArray();
        foreach (var bound in PauseBuckets.Append(double.PositiveInfinity))
            yield return new Sample("_bucket", [Vm(vm), new("le", MetricsText.Number(bound))], pauses.Count(p => p <= bound));
        yield return new Sample("_sum", [Vm(vm)], Math.Round(pauses.Sum(), 6));
        yield return new Sample("_count", [Vm(vm)], pauses.Length);
    }

    private static UpdateReport? Last(MeasuredVm vm) => vm.Updates.LastOrDefault();

    private static Label Vm(MeasuredVm vm) => new("vm", vm.Status.Vm);

    private static Sample One(MeasuredVm vm, double value) => new("", [Vm(vm)], value);

    private static IEnumerable<Sample> Maybe(MeasuredVm vm, double? value) => value is { } known ? [One(vm, known)] : [];
}
