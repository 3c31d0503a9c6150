using System.Globalization;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Sizes as QEMU writes them (<c>qemu_strtosz</c>): a number, decimal with a fraction or hexadecimal, and a suffix
/// B, K, M, G, T, P or E in powers of 1024.</summary>
public static class QemuSize
{
    private const string Suffixes = "BKMGTPE";

    /// <summary>Parses a size.</summary>
    /// <param name="text">Such as <c>2G</c>, <c>512</c>, <c>1.5G</c>, <c>0x10000</c>.</param>
    /// <param name="defaultSuffix">The unit of a number that ends in a digit; <c>M</c> for <c>-m</c>, else <c>B</c>.</param>
    /// <param name="bytes">The size in bytes, not negative.</param>
    /// <returns>Whether <paramref name="text"/> is a size that fits.</returns>
    public static bool TryParse(string? text, char defaultSuffix, out long bytes)
    {
        bytes = 0;
        if (string.IsNullOrEmpty(text))
            return false;
        char suffix = defaultSuffix;
        ReadOnlySpan<char> number = text;
        bool hexadecimal = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        char last = char.ToUpperInvariant(text[^1]);
        if (Suffixes.Contains(last, StringComparison.Ordinal) && !(hexadecimal && last is 'B' or 'E'))
        {
            suffix = last;
            number = number[..^1];
        }
        int exponent = 10 * Suffixes.IndexOf(suffix, StringComparison.Ordinal);
        if (exponent < 0)
            return false;
        decimal value;
        if (hexadecimal)
        {
            if (!long.TryParse(number[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out long whole) || whole < 0)
                return false;
            value = whole;
        }
        else if (!decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out value))
        {
            return false;
        }
        if (value > (decimal)long.MaxValue / (1L << exponent))
            return false;
        bytes = (long)(value * (1L << exponent));
        return true;
    }

    /// <summary>Parses a size, or says which option is at fault.</summary>
    /// <exception cref="CommandLineException"><paramref name="text"/> is no size.</exception>
    public static long Parse(string? text, char defaultSuffix, string option) =>
        TryParse(text, defaultSuffix, out long bytes)
            ? bytes
            : throw new CommandLineException(option, $"'{text}' is not a size", "write it like 2G, 2048M or a number of bytes");
}
