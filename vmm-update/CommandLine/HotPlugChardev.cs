namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Arguments of <c>chardev-add</c> as <c>-chardev</c> writes them.</summary>
internal static class HotPlugChardev
{
    /// <returns><see langword="null"/> for a backend that is not known here.</returns>
    public static SpecOption? ToOption(TranslationNotes notes, OptionString chardev, string id)
    {
        string? type = chardev["backend.type"];
        OptionString? option = type switch
        {
            "socket" => Socket(notes, chardev, id),
            "file" => Copy(Of("file", id), chardev, ("out", "path"), ("in", "input-path"), ("append", "append")),
            "pipe" or "serial" or "parallel" => Copy(Of(type, id), chardev, ("device", "path")),
            "null" or "pty" or "stdio" or "vc" or "msmouse" or "wctablet" or "braille" or "testdev" => Copy(Of(type, id), chardev, ("signal", "signal")),
            "ringbuf" or "memory" => Copy(Of("ringbuf", id), chardev, ("size", "size")),
            "udp" => Copy(Of("udp", id), chardev, ("remote.data.host", "host"), ("remote.data.port", "port"), ("local.data.host", "localaddr"), ("local.data.port", "localport")),
            _ => null,
        };
        if (option is null)
            return null;
        option = Copy(option, chardev, ("logfile", "logfile"), ("logappend", "logappend"));
        OptionString target = type.Is("file") ? option.With("append", true) : option;
        if (target.Has("logfile"))
            target = target.With("logappend", true);
        return new SpecOption("chardev", option.ToString(), target.Equals(option) ? null : target.ToString());
    }

    private static OptionString Socket(TranslationNotes notes, OptionString chardev, string id)
    {
        // In QMP a socket listens unless told otherwise, and does not wait.
        bool server = chardev.GetSwitch("backend.data.server") != false;
        OptionString socket = Copy(Of("socket", id), chardev,
            ("addr.data.path", "path"), ("addr.data.abstract", "abstract"), ("addr.data.tight", "tight"),
            ("addr.data.host", "host"), ("addr.data.port", "port"), ("addr.data.to", "to"), ("addr.data.ipv4", "ipv4"), ("addr.data.ipv6", "ipv6"),
            ("addr.data.str", "fd"), ("telnet", "telnet"), ("tn3270", "tn3270"), ("websocket", "websocket"), ("tls-creds", "tls-creds"),
            ("tls-authz", "tls-authz"), ("reconnect", "reconnect"), ("reconnect-ms", "reconnect-ms"), ("nodelay", "nodelay")).With("server", server);
        if (server)
        {
            notes.Fail("chardev-not-held", id, "a socket that was made to listen at run time belongs to this process; a second VMM cannot listen there",
                "put the character device on the command line, or remove it before an update");
            return socket.With("wait", false);
        }
        notes.Warn("chardev-client", id, "every VMM connects anew: the other end sees a second connection, then the first one closing",
            "make sure that the other end accepts connections again");
        return socket;
    }

    private static OptionString Of(string type, string id) => OptionString.Parse(type, "backend").With("id", id);

    private static OptionString Copy(OptionString into, OptionString chardev, params ReadOnlySpan<(string From, string To)> keys)
    {
        foreach ((string from, string to) in keys)
        {
            if (chardev["backend.data." + from] is { } value)
                into = into.With(to, value);
        }
        return into;
    }
}
