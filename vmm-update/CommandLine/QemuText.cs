using System.Globalization;

namespace CprSharp.VmmUpdate.CommandLine;

internal static class QemuText
{
    public static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    public static bool TryNumber(string? text, out int value) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    public static bool Is(this string? text, string other) => string.Equals(text, other, StringComparison.Ordinal);

    public static bool IsOneOf(this string? text, params ReadOnlySpan<string> others)
    {
        foreach (string other in others)
        {
            if (text.Is(other))
                return true;
        }
        return false;
    }

    public static bool Begins(this string text, string prefix) => text.StartsWith(prefix, StringComparison.Ordinal);
}
