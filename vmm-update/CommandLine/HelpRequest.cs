using System.Collections.Frozen;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Options with which QEMU answers a question and exits.</summary>
internal static class HelpRequest
{
    private static readonly FrozenSet<string> Always =
        FrozenSet.Create(StringComparer.Ordinal, "h", "help", "version", "audio-help", "dump-vmstate");

    /// <summary>Options whose argument can be <c>help</c>, alone or as one of its parts.</summary>
    private static readonly FrozenSet<string> CanAsk = FrozenSet.Create(StringComparer.Ordinal,
        "machine", "M", "cpu", "device", "accel", "chardev", "netdev", "nic", "net", "object", "audio", "audiodev", "d", "trace", "vga",
        "display", "L", "drive", "tpmdev", "k", "soundhw", "watchdog", "usbdevice", "global", "numa", "smp", "sandbox", "spice", "plugin");

    public static bool Is(QemuOption option) => Always.Contains(option.Name)
        || (CanAsk.Contains(option.Name) && option.Value is { } value && !value.StartsWith('{') && value.Split(',').Any(Asks));

    private static bool Asks(string part) =>
        part.IsOneOf("help", "?") || (part.Contains('=', StringComparison.Ordinal) && part[(part.IndexOf('=', StringComparison.Ordinal) + 1)..].IsOneOf("help", "?"));
}
