using System.Text.Json.Nodes;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>The same VM under CprSharp and under QEMU driven bare, updated in turns.</summary>
internal sealed record Comparison(IReadOnlyList<Sample> CprSharp, IReadOnlyList<Sample> Bare)
{
    public double PauseRatio => Statistics.PairedRatio(Pauses(CprSharp), Pauses(Bare));

    public double TotalRatio => Statistics.PairedRatio([.. CprSharp.Select(s => s.Total)], [.. Bare.Select(s => s.Total)]);

    public double CprSharpPause => Statistics.Median(Pauses(CprSharp));

    public double BarePause => Statistics.Median(Pauses(Bare));

    public double CprSharpTotal => Statistics.Median(CprSharp.Select(s => s.Total));

    public double BareTotal => Statistics.Median(Bare.Select(s => s.Total));

    /// <summary>Medians of what CprSharp's total is made of; "command" is its command line's own time.</summary>
    public IReadOnlyList<Part> Parts =>
        [.. CprSharp.SelectMany(s => s.Parts).GroupBy(p => p.Name, (name, parts) => new Part(name, Statistics.Median(parts.Select(p => p.Took))))];

    /// <summary>How much longer CprSharp's pause is than in the other comparison, whose rounds were made in turns with this one's; and bare QEMU's.</summary>
    public (double CprSharp, double Bare) GrowthFrom(Comparison first) =>
        (Statistics.PairedRatio(Pauses(CprSharp), Pauses(first.CprSharp)), Statistics.PairedRatio(Pauses(Bare), Pauses(first.Bare)));

    /// <summary>
    /// Rounds alternate between all VMs, and begin with the first and the last by turns: what changes on the host meanwhile meets all of them. Those
    /// whose turn it is not have their guests stopped. One more round comes first and is not counted.
    /// </summary>
    public static async Task<IReadOnlyList<Comparison>> RunAsync(IReadOnlyList<(IMeasuredVm CprSharp, IMeasuredVm Bare)> pairs, string engine, int rounds)
    {
        var vms = pairs.SelectMany(p => new[] { p.CprSharp, p.Bare }).ToList();
        var samples = vms.ToDictionary(vm => vm, _ => new List<Sample>());
        vms.ForEach(vm => vm.Rest());
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var vm in round % 2 == 0 ? vms : Enumerable.Reverse(vms))
            {
                vm.Wake();
                var sample = await vm.UpdateAsync(engine);
                vm.Rest();
                if (round > 0)
                    samples[vm].Add(sample);
            }
        }

        vms.ForEach(vm => vm.Wake());
        return [.. pairs.Select(p => new Comparison(samples[p.CprSharp], samples[p.Bare]))];
    }

    public JsonObject ToJson() => new()
    {
        ["pauseRatio"] = Round(PauseRatio),
        ["totalRatio"] = Round(TotalRatio),
        ["cprsharpPauseMs"] = List(CprSharp.Select(s => s.Pause)),
        ["barePauseMs"] = List(Bare.Select(s => s.Pause)),
        ["cprsharpTotalMs"] = List(CprSharp.Select(s => s.Total)),
        ["cprsharpPartsMs"] = new JsonObject(Parts.Select(p => KeyValuePair.Create<string, JsonNode?>(p.Name, Round(p.Took)))),
        ["bareTotalMs"] = List(Bare.Select(s => s.Total)),
    };

    private static double[] Pauses(IEnumerable<Sample> samples) => [.. samples.Select(s => s.Pause)];

    private static double Round(double value) => Math.Round(value, 3);

    private static JsonArray List(IEnumerable<double> values) => [.. values.Select(v => JsonValue.Create(Round(v)))];
}
