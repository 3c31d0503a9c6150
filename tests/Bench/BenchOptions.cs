using System.Globalization;

namespace CprSharp.Bench;

/// <summary>The command line.</summary>
internal sealed record BenchOptions(int Rounds, string? Program, string? Output, IReadOnlyList<string> Only)
{
    public const string Usage = """
        usage: CprSharp.Bench [--rounds N] [--only pause|libvirt|memory|devices|fleet|qmp|footprint|iommufd]... [--program CPRSHARP] [--output FILE]
          --rounds   rounds of each comparison (default: ROUNDS in the environment, or 11); the growth curves and the fleet take half of them
          --only     this measurement alone; may be repeated
          --program  the cprsharp to measure (default: artifacts/cprsharp, else the build)
          --output   the JSON document (default: artifacts/bench.json)
        """;

    private const int DefaultRounds = 11;

    /// <summary>Rounds of one point of a growth curve, and of the fleet.</summary>
    public int RoundsOfAPoint => Math.Min(Rounds, Math.Max(5, Rounds / 2));

    public bool Wants(string measurement) => Only.Count == 0 || Only.Contains(measurement);

    /// <exception cref="FormatException">Something is not understood.</exception>
    public static BenchOptions Parse(IReadOnlyList<string> arguments)
    {
        var options = new BenchOptions(ReadRounds(Environment.GetEnvironmentVariable("ROUNDS")), null, null, []);
        for (var i = 0; i < arguments.Count; i += 2)
        {
            var value = i + 1 < arguments.Count ? arguments[i + 1] : throw new FormatException($"{arguments[i]} needs a value");
            options = arguments[i] switch
            {
                "--rounds" => options with { Rounds = ReadRounds(value) },
                "--program" => options with { Program = value },
                "--output" => options with { Output = value },
                "--only" when value is "pause" or "libvirt" or "memory" or "devices" or "fleet" or "qmp" or "footprint" or "iommufd" => options with { Only = [.. options.Only, value] },
                _ => throw new FormatException($"{arguments[i]} {value} is not understood"),
            };
        }

        return options;
    }

    private static int ReadRounds(string? text) =>
        string.IsNullOrEmpty(text) ? DefaultRounds
        : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var rounds) && rounds is > 0 and <= 1000 ? rounds
        : throw new FormatException($"rounds: '{text}' is not a number from 1 to 1000");
}
