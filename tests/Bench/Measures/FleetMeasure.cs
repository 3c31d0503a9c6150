using System.Text.Json.Nodes;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>What it does to the pauses when many VMs of a host are updated several at a time instead of one after the other.</summary>
internal sealed class FleetMeasure(Components components, BenchOptions options, string scratch, Results results)
{
    private const int Vms = 30;
    private static readonly VmShape Shape = VmShape.Small(128);
    private static readonly int[] AtATime = [1, 4];

    public async Task RunAsync()
    {
        results.Heading($"update --all of {Vms} VMs ({Shape.MemoryMiB} MiB, no devices), 11.1 -> 11.1, {options.RoundsOfAPoint} rounds in turns");
        await using var fleet = await Fleet.StartAsync(components, Path.Combine(scratch, "fleet"), Shape, Vms);
        var samples = AtATime.ToDictionary(n => n, _ => new List<FleetSample>());
        for (var round = 0; round <= options.RoundsOfAPoint; round++)
        {
            foreach (var parallel in round % 2 == 0 ? AtATime : Enumerable.Reverse(AtATime))
            {
                var sample = await fleet.UpdateAsync(parallel);
                if (round > 0)
                    samples[parallel].Add(sample);
            }
        }

        results.Row("", "pause", "pause 90 %", "longest", "an update", "all of it");
        results.Row("", "ms", "ms", "ms", "ms", "s");
        foreach (var (parallel, of) in samples)
        {
            var pauses = Pauses(of);
            results.Row(
                $"--parallel {parallel}", Statistics.Median(pauses), Statistics.Quantile(pauses, 0.9), pauses.Max(),
                Statistics.Median(of.SelectMany(s => s.Updates)), Statistics.Median(of.Select(s => s.Took)) / 1000);
            results.Keep($"fleet/parallel-{parallel}", new JsonObject
            {
                ["pauseMs"] = List(pauses),
                ["updateMs"] = List(of.SelectMany(s => s.Updates)),
                ["tookMs"] = List(of.Select(s => s.Took)),
            });
        }

        var (one, several) = (samples[AtATime[0]], samples[AtATime[^1]]);
        results.Row($"{AtATime[^1]} at a time / one, same VM and round: pause", Statistics.PairedRatio(Pauses(several), Pauses(one)));
        results.Row("the same: all of it", Statistics.PairedRatio([.. several.Select(s => s.Took)], [.. one.Select(s => s.Took)]));
        results.Row("all supervisors, PSS in MiB", fleet.SupervisorsMiB);
    }

    private static double[] Pauses(IEnumerable<FleetSample> samples) => [.. samples.SelectMany(s => s.Pauses)];

    private static JsonArray List(IEnumerable<double> values) => [.. values.Select(v => JsonValue.Create(Math.Round(v, 3)))];
}
