namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Character devices and monitors: listeners are held by the supervisor, QMP is served by it.</summary>
internal static class CharacterTranslation
{
    private static readonly string[] AddressKeys = ["path", "host", "port", "to", "ipv4", "ipv6", "abstract", "tight"];

    public static void Apply(SpecDraft draft)
    {
        Expand(draft);
        TakeQmp(draft);
        draft.Rewrite(option => option.Name.Is("chardev") ? [Translate(draft, option)] : [option]);
        if (draft.Named("serial", "parallel").Any(static option => option.Value.IsOneOf("stdio", "mon:stdio"))
            || (draft.HasOption("nographic") && !draft.HasOption("serial") && !draft.HasOption("nodefaults")))
        {
            Terminal(draft, "serial");
        }
    }

    /// <summary>Short forms that a second VMM could not use as they stand become a <c>-chardev</c>: ports of the name that
    /// QEMU gives them, monitors of another, so that the supervisor can add a <c>-qmp</c> of its own.</summary>
    private static void Expand(SpecDraft draft)
    {
        int serials = 0, parallels = 0, monitors = 0;
        draft.Rewrite(option => option.Name switch
        {
            "serial" => ExpandPort(option, $"serial{QemuText.Number(CountSerial(draft, option, ref serials))}"),
            "parallel" => ExpandPort(option, $"parallel{QemuText.Number(option.Value.Is("none") ? parallels : parallels++)}"),
            "debugcon" => ExpandPort(option, "debugcon"),
            "monitor" => ExpandMonitor(option, monitors++, "readline"),
            "qmp" => ExpandMonitor(option, monitors++, "control"),
            "qmp-pretty" => ExpandMonitor(option, monitors++, "control", pretty: true),
            _ => [option],
        });
    }

    /// <summary>Since QEMU 8.2 <c>-serial none</c> leaves its number unused; before, the next one took it.</summary>
    private static int CountSerial(SpecDraft draft, SpecOption option, ref int serials) =>
        option.Value.Is("none") && !draft.Facts.IsAtLeast(8, 2) ? serials : serials++;

    private static IEnumerable<SpecOption> ExpandPort(SpecOption option, string id)
    {
        if (LegacyCharacter.Parse(option, id) is not { } legacy || !legacy.Chardev["backend"].IsOneOf("socket", "file", "udp", "pipe", "pty"))
            return [option];
        SpecOption chardev = new("chardev", legacy.Chardev.ToString());
        SpecOption port = option with { Value = $"chardev:{id}" };
        return legacy.Multiplexed ? [chardev, port, new SpecOption("mon", $"chardev={id},mode=readline")] : [chardev, port];
    }

    private static IEnumerable<SpecOption> ExpandMonitor(SpecOption option, int index, string mode, bool pretty = false)
    {
        // QEMU compares four characters.
        if (option.Name.Is("monitor") && option.Text.Begins("none"))
            return [option];
        string id = option.Text.Begins("chardev:") ? option.Text[8..] : $"legacy-monitor{QemuText.Number(index)}";
        SpecOption monitor = new("mon", $"chardev={id},mode={mode}{(pretty ? ",pretty=on" : "")}");
        return LegacyCharacter.Parse(option, id) is { } legacy ? [new SpecOption("chardev", legacy.Chardev.ToString()), monitor] : [monitor];
    }

    private static void TakeQmp(SpecDraft draft)
    {
        var taken = new HashSet<string>(StringComparer.Ordinal);
        foreach (SpecOption option in draft.Named("mon"))
        {
            OptionString monitor = OptionString.Parse(option, "chardev");
            if (!monitor["mode"].Is("control"))
                continue;
            string id = monitor["chardev"] ?? throw new CommandLineException(option.ToString(), "a monitor needs a chardev", "add chardev=ID");
            SpecOption chardev = draft.Named("chardev").FirstOrDefault(candidate => Id(candidate).Is(id))
                ?? throw new CommandLineException(option.ToString(), $"there is no -chardev with id={id}", "add it");
            draft.ClientSockets.Add(ClientSocketOf(draft, OptionString.Parse(chardev, "backend"), monitor, option));
            taken.Add(id);
        }
        if (taken.Count == 0)
            return;
        draft.Change("QMP is served by the supervisor; QEMU itself is spoken to over an inner socket.");
        draft.Rewrite(option =>
            (option.Name.Is("mon") && taken.Contains(OptionString.Parse(option, "chardev")["chardev"] ?? "")) || (option.Name.Is("chardev") && taken.Contains(Id(option)))
                ? [] : [option]);
    }

    private static ClientSocket ClientSocketOf(SpecDraft draft, OptionString chardev, OptionString monitor, SpecOption option)
    {
        string id = monitor["chardev"]!;
        string backend = chardev["backend"] ?? "";
        if (!backend.Is("socket"))
        {
            throw new CommandLineException(option.ToString(), $"QMP on the character device {id} ({backend}) cannot be served by the supervisor",
                "put QMP on a Unix socket: -qmp unix:PATH,server=on,wait=off");
        }
        bool listen = chardev.GetSwitch("server") == true;
        long reconnect = QemuSize.TryParse(chardev["reconnect-ms"], 'B', out long milliseconds) ? milliseconds
            : QemuSize.TryParse(chardev["reconnect"], 'B', out long seconds) ? seconds * 1000 : 0;
        string others = chardev.Without("backend", "id", "server", "wait", "fd", "reconnect", "reconnect-ms").Without(AddressKeys).ToString();
        EndpointAddress address = Address(chardev, id);
        if (address is DescriptorAddress passed)
            draft.TakeInherited(passed.Number);
        return new ClientSocket(monitor["id"] ?? id, address, listen,
            Wait: listen && chardev.GetSwitch("wait") != false, monitor.GetSwitch("pretty") == true, reconnect, others);
    }

    private static SpecOption Translate(SpecDraft draft, SpecOption option)
    {
        OptionString chardev = OptionString.Parse(option, "backend");
        string id = chardev["id"] ?? throw new CommandLineException(option.ToString(), "a character device needs an id", "add id=NAME");
        (OptionString first, OptionString target) = Backend(draft, chardev, id);
        if (target.Has("logfile") && target.GetSwitch("logappend") != true)
            target = target.With("logappend", true);
        return option with { Value = first.ToString(), TargetValue = target.Equals(first) ? null : target.ToString() };
    }

    private static (OptionString First, OptionString Target) Backend(SpecDraft draft, OptionString chardev, string id)
    {
        switch (chardev["backend"])
        {
            case "socket" when chardev.GetSwitch("server") == true:
                return Listener(draft, chardev, id);
            case "socket" when chardev.Has("fd"):
                draft.Warn("chardev-shared-connection", id, "one connection, which both VMMs hold while an update runs: bytes that arrive in that time can be lost",
                    "give the character device a listening socket (server=on)");
                break;
            case "socket":
                draft.Warn("chardev-client", id, "every VMM connects anew: the other end sees a second connection, then the first one closing",
                    "let QEMU listen instead (server=on); else make sure that the other end accepts connections again");
                break;
            case "file" when chardev.GetSwitch("append") != true:
                return (chardev, chardev.With("append", true));
            case "stdio":
                Terminal(draft, id);
                break;
            case "pty" when ConsoleUse.IsPlain(draft, id):
                OptionString inner = OptionString.Parse("socket", "backend").With("id", id);
                foreach (string key in (string[])["mux", "logfile", "logappend"])
                    inner = chardev[key] is { } value ? inner.With(key, value) : inner;
                return Console(draft, inner, id, new TerminalAddress(chardev["path"]), wait: false);
            case "pty":
                draft.Warn("chardev-pty", id, "every VMM makes a new pseudoterminal: its path changes and who has the old one open sees it hang up",
                    "use a listening socket: -chardev socket,path=PATH,server=on,wait=off");
                return (chardev, chardev.Without("path"));
            case "pipe":
                draft.Warn("chardev-pipe", id, "both VMMs have the pipe open while an update runs: input can reach the wrong one",
                    "use a listening socket: -chardev socket,path=PATH,server=on,wait=off");
                break;
            case "serial" or "parallel" or "tty" or "parport":
                draft.Warn("chardev-host-port", id, "both VMMs have the host's port open while an update runs: input can reach the wrong one",
                    "avoid traffic on the port during an update");
                break;
            case "udp":
                draft.Warn("chardev-udp", id, "both VMMs have the port bound while an update runs: datagrams of that time can be lost", "");
                break;
            case "ringbuf" or "memory":
                draft.Warn("chardev-ringbuf", id, "its contents stay in the old VMM", "read it out before an update");
                break;
            case "dbus":
                draft.Fail("display-dbus", id, "a D-Bus console belongs to one process", "use a listening socket");
                break;
            case "spicevmc" or "spiceport":
                draft.Fail("display-spice", id, "SPICE connections belong to one process", "use VNC and a listening socket");
                break;
            default:
                break;
        }
        return (chardev, chardev);
    }

    private static (OptionString First, OptionString Target) Listener(SpecDraft draft, OptionString chardev, string id)
    {
        bool wait = chardev.GetSwitch("wait") != false;
        if ((!chardev.Has("fd") || draft.Settings.ServesPassedSockets) && !chardev.Has("tls-creds")
            && chardev.GetSwitch("websocket") != true && chardev.GetSwitch("tn3270") != true && ConsoleUse.IsPlain(draft, id))
        {
            EndpointAddress address = Address(chardev, id);
            if (address is DescriptorAddress passed)
                draft.TakeInherited(passed.Number);
            return Console(draft, chardev.Without(AddressKeys), id, address, wait);
        }
        OptionString held = chardev;
        if (!chardev.Has("fd"))
        {
            int number = draft.TakeNumber();
            var listener = new ListenerDescriptor(number, id, Address(chardev, id));
            draft.Descriptors.Add(listener);
            draft.Change($"The listening socket of {id} is opened and held by the supervisor.");
            held = chardev.Without(AddressKeys).With("fd", number);
        }
        held = held.With("server", true).With("wait", wait);
        draft.Warn("chardev-listener", id, "clients connect to one address for the VM's life; a client that is connected during an update has to connect again", "");
        return (held, wait ? held.With("wait", false) : held);
    }

    private static (OptionString First, OptionString Target) Console(SpecDraft draft, OptionString socket, string id, EndpointAddress address, bool wait)
    {
        int number = draft.TakeNumber();
        bool multiplexed = socket.GetSwitch("mux") == true;
        draft.Descriptors.Add(new ConsoleDescriptor(
            number, multiplexed ? $"{id}-base" : id, address, wait, socket.GetSwitch("telnet") == true, ConsoleUse.IsMonitor(draft, id) && !multiplexed));
        draft.Change($"The clients of {id} are served by the supervisor.");
        draft.Pass("chardev-served", id, "its client stays connected over an update");
        if (multiplexed)
            draft.Warn("chardev-mux", id, "after an update input goes to the first of the devices that share it, whichever Ctrl-a c had chosen", "");
        OptionString inner = socket.With("fd", number).With("server", true).With("wait", false);
        return (inner, inner);
    }

    private static void Terminal(SpecDraft draft, string id)
    {
        if (draft.Daemonize)
            throw new CommandLineException($"-daemonize ({id})", "the terminal cannot be used by a daemon", "put it on a socket, or add -serial null -monitor none");
        draft.Warn("stdio", id, "every VMM of the VM uses the supervisor's standard input and output; what is typed while an update runs can reach the wrong one",
            "use a listening socket for anything but experiments");
    }

    private static EndpointAddress Address(OptionString chardev, string id)
    {
        if (chardev["fd"] is { } fd)
        {
            return QemuText.TryNumber(fd, out int number)
                ? new DescriptorAddress(number)
                : throw new CommandLineException($"-chardev {chardev}", $"fd={fd} names a descriptor that only a monitor could have given", "use its number");
        }
        if (chardev["path"] is { } path)
            return new UnixAddress(path, chardev.GetSwitch("abstract") == true, chardev.GetSwitch("tight") != false);
        if (chardev["port"] is { } port)
        {
            return new TcpAddress(chardev["host"] ?? "", port, QemuText.TryNumber(chardev["to"], out int to) ? to : null,
                chardev.GetSwitch("ipv4"), chardev.GetSwitch("ipv6"));
        }
        throw new CommandLineException($"-chardev {chardev}", $"the socket {id} has no address", "add path=, or host= and port=");
    }

    private static string Id(SpecOption chardev) => OptionString.Parse(chardev, "backend")["id"] ?? "";
}
