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

    /// <summary>Rounds alternate, and begin with the one and the other by turns. The VM whose turn it is not has its guest stopped. One more round comes first and is not counted.</summary>
    public static async Task<Comparison> RunAsync(IMeasuredVm cprSharp, IMeasuredVm bare, string engine, int rounds)
    {
        var samples = new Dictionary<IMeasuredVm, List<Sample>> { [cprSharp] = [], [bare] = [] };
        cprSharp.Rest();
        bare.Rest();
        for (var round = 0; round <= rounds; round++)
        {
            IMeasuredVm[] turns = round % 2 == 0 ? [cprSharp, bare] : [bare, cprSharp];
            foreach (var vm in turns)
            {
                vm.Wake();
                var sample = await vm.UpdateAsync(engine);
                vm.Rest();
                if (round > 0)
                    samples[vm].Add(sample);
            }
        }

        cprSharp.Wake();
        bare.Wake();
        return new Comparison(samples[cprSharp], samples[bare]);
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
