namespace CprSharp.Bench;

/// <summary>Order statistics of what was measured.</summary>
internal static class Statistics
{
    public static double Median(IEnumerable<double> values) => Quantile(values, 0.5);

    /// <summary>The value below which this part of the others lies, interpolated between neighbours; NaN of nothing.</summary>
    public static double Quantile(IEnumerable<double> values, double part)
    {
        double[] sorted = [.. values.Order()];
        if (sorted.Length == 0)
            return double.NaN;
        var place = part * (sorted.Length - 1);
        var below = (int)Math.Floor(place);
        var above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
    }

    /// <summary>Median of the quotients of what was measured in the same round, which the noise of the host touches less than the quotient of the medians.</summary>
    public static double PairedRatio(IReadOnlyList<double> measured, IReadOnlyList<double> baseline) =>
        Median(measured.Zip(baseline, (m, b) => m / b));
}
