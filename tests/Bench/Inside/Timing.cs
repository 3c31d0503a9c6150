using System.Text.Json;

namespace CprSharp.Bench.Inside;

/// <summary>How long something took once.</summary>
/// <param name="Curve">What it is a point of.</param>
/// <param name="Point">Its name.</param>
/// <param name="What">"call", "map" or "change".</param>
/// <param name="By">"c", "library", or "journal": the library with its journal.</param>
/// <param name="Nanoseconds">For one call, for all that is mapped, or for the change.</param>
internal sealed record Timing(string Curve, string Point, string What, string By, double Nanoseconds)
{
    public static void Write(string path, IReadOnlyList<Timing> timings) => File.WriteAllText(path, JsonSerializer.Serialize(timings));

    public static IReadOnlyList<Timing> Read(string path) => JsonSerializer.Deserialize<List<Timing>>(File.ReadAllText(path))!;
}
