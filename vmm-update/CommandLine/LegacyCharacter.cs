using System.Text.RegularExpressions;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>The short form of a character device, as <c>-serial</c>, <c>-monitor</c>, <c>-qmp</c> and others take it.</summary>
/// <param name="Chardev">The same as an argument of <c>-chardev</c>.</param>
/// <param name="Multiplexed">Whether it began with <c>mon:</c>: a human monitor shares it.</param>
internal sealed partial record LegacyCharacter(OptionString Chardev, bool Multiplexed)
{
    /// <summary>Reads the short form as QEMU does (qemu_chr_parse_compat in chardev/char.c).</summary>
    /// <returns><see langword="null"/> for <c>none</c> and <c>chardev:ID</c>, which make no character device.</returns>
    /// <exception cref="CommandLineException">Not a short form.</exception>
    public static LegacyCharacter? Parse(SpecOption option, string id)
    {
        string text = option.Text;
        if (text.Is("none") || text.Begins("chardev:"))
            return null;
        bool multiplexed = text.Begins("mon:");
        if (multiplexed)
            text = text[4..];
        OptionString chardev = ReadBackend(text) is { } parsed
            ? WithId(parsed, id)
            : throw new CommandLineException(option.ToString(), $"'{text}' is not a character device", "see the manual page of QEMU, -serial");
        if (multiplexed)
        {
            chardev = chardev.With("mux", true);
            // Ctrl-C goes to the guest.
            if (text.Is("stdio"))
                chardev = chardev.With("signal", false);
        }
        return new LegacyCharacter(chardev, multiplexed);
    }

    private static OptionString WithId(OptionString parsed, string id)
    {
        OptionString chardev = OptionString.Parse(parsed["backend"]!, "backend").With("id", id);
        foreach ((string key, string value) in parsed.Pairs.Where(static pair => !pair.Key.IsOneOf("backend", "id")))
            chardev = chardev.With(key, value);
        return chardev;
    }

    private static OptionString? Backend(string text)
    {
        if (text.IsOneOf("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio"))
            return Of(text);
        if (text.Begins("vc"))
            return Console(text[2..]);
        if (Rest(text, "file:") is { } file)
            return Of("file").With("path", file);
        if (Rest(text, "pipe:") is { } pipe)
            return Of("pipe").With("path", pipe);
        if (Rest(text, "pty:") is { } link)
            return Of("pty").With("path", link);
        if (Rest(text, "unix:") is { } unix)
            return Merge(Of("socket"), OptionString.Parse(unix, "path"));
        foreach (string kind in (string[])["tcp", "telnet", "tn3270", "websocket"])
        {
            if (Rest(text, kind + ":") is { } address)
                return Socket(address, kind);
        }
        if (Rest(text, "udp:") is { } datagram)
            return Datagram(datagram);
        if (text.Begins("/dev/parport") || text.Begins("/dev/ppi"))
            return Of("parallel").With("path", text);
        return text.Begins("/dev/") ? Of("serial").With("path", text) : null;
    }

    private static OptionString? Console(string size)
    {
        if (size.Length == 0)
            return Of("vc");
        Match match = ConsoleSize().Match(size);
        if (!match.Success)
            return null;
        bool characters = match.Groups["c"].Success;
        return Of("vc").With(characters ? "cols" : "width", match.Groups["x"].Value).With(characters ? "rows" : "height", match.Groups["y"].Value);
    }

    private static OptionString? Socket(string address, string kind)
    {
        Match match = HostPort().Match(address);
        if (!match.Success)
            return null;
        OptionString socket = Of("socket").With("host", match.Groups["host"].Value).With("port", match.Groups["port"].Value);
        if (match.Groups["options"].Success)
            socket = Merge(socket, OptionString.Parse(match.Groups["options"].Value));
        return kind.Is("tcp") ? socket : socket.With(kind, true);
    }

    private static OptionString? Datagram(string address)
    {
        Match match = Udp().Match(address);
        if (!match.Success)
            return null;
        OptionString udp = Of("udp").With("host", match.Groups["host"].Value).With("port", match.Groups["port"].Value);
        return match.Groups["localport"].Success
            ? udp.With("localaddr", match.Groups["localaddr"].Value).With("localport", match.Groups["localport"].Value)
            : udp;
    }

    /// <summary>Options that begin like JSON and are none are none either.</summary>
    private static OptionString? ReadBackend(string text)
    {
        try
        {
            return Backend(text);
        }
        catch (FormatException)
        {
            return null;
        }
    }

    private static OptionString Of(string backend) => OptionString.Parse(backend, "backend");

    private static OptionString Merge(OptionString into, OptionString more) =>
        more.Pairs.Aggregate(into, static (result, pair) => result.With(pair.Key, pair.Value));

    private static string? Rest(string text, string prefix) => text.Begins(prefix) ? text[prefix.Length..] : null;

    [GeneratedRegex("^:(?<x>[0-9]+)(?<c>C)?x(?<y>[0-9]+)C?$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex ConsoleSize();

    [GeneratedRegex("^(?<host>[^:]*):(?<port>[^,]+)(,(?<options>.*))?$", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant | RegexOptions.Singleline, 1000)]
    private static partial Regex HostPort();

    [GeneratedRegex("^(?<host>[^:]*):(?<port>[^@,]+)(@(?<localaddr>[^:]*):(?<localport>[^,]+))?", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 1000)]
    private static partial Regex Udp();
}
