using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace CprSharp.VmmUpdate.Metrics;

/// <summary>What a number counts or shows.</summary>
internal enum MetricType
{
    Gauge,
    Counter,
    Histogram,
}

/// <summary>A label and its value.</summary>
internal readonly record struct Label(string Name, string Value);

/// <summary>One number.</summary>
/// <param name="Suffix">What comes behind the family's name: a histogram's <c>_bucket</c>, <c>_sum</c> or <c>_count</c>; else empty.</param>
/// <param name="Labels">What it is of.</param>
/// <param name="Value">The number.</param>
internal sealed record Sample(string Suffix, ImmutableArray<Label> Labels, double Value);

/// <summary>Numbers of one name.</summary>
internal sealed record MetricFamily(string Name, MetricType Type, string Help, ImmutableArray<Sample> Samples);

/// <summary>Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").</summary>
internal static class MetricsText
{
    public static string Write(IEnumerable<MetricFamily> families)
    {
        var text = new StringBuilder();
        foreach (var family in families.Where(f => !f.Samples.IsEmpty))
        {
            text.Append($"# HELP {family.Name} {EscapeHelp(family.Help)}\n");
            text.Append($"# TYPE {family.Name} {family.Type.ToString().ToLowerInvariant()}\n");
            foreach (var sample in family.Samples)
            {
                text.Append(family.Name).Append(sample.Suffix);
                if (!sample.Labels.IsEmpty)
                    text.Append('{').AppendJoin(',', sample.Labels.Select(l => $"{l.Name}=\"{EscapeValue(l.Value)}\"")).Append('}');
                text.Append(' ').Append(Number(sample.Value)).Append('\n');
            }
        }

        return text.ToString();
    }

    public static string Number(double value) =>
        double.IsPositiveInfinity(value) ? "+Inf" : double.IsNegativeInfinity(value) ? "-Inf" : double.IsNaN(value) ? "NaN" : value.ToString("R", CultureInfo.InvariantCulture);

    private static string EscapeHelp(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    private static string EscapeValue(string text) => EscapeHelp(text).Replace("\"", "\\\"", StringComparison.Ordinal);
}
