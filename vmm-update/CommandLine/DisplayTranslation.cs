using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Displays: VNC goes on listening after Commit, windows open anew, SPICE and D-Bus cannot be handed over.</summary>
internal static class DisplayTranslation
{
    private const int VncPort = 5900;

    public static void Apply(SpecDraft draft)
    {
        draft.Rewrite(option => option.Name.Is("display") && option.Text.Begins("vnc=") ? [option with { Name = "vnc", Value = option.Text[4..] }] : [option]);
        if (IsDefault(draft))
            SpellOutDefault(draft);
        bool first = true;
        draft.Rewrite(option => option.Name switch
        {
            "vnc" => [Vnc(draft, option, ref first)],
            "display" => [Window(draft, option)],
            "spice" => [Refuse(draft, option, "display-spice", "SPICE connections belong to one process", "use VNC: -vnc ADDRESS")],
            _ => [option],
        });
    }

    /// <summary>Whether somebody can see a virtual console of this VM.</summary>
    public static bool IsVisible(SpecDraft draft) => draft.Named("vnc", "spice").Any() || (!draft.HasOption("nographic")
        && draft.Named("display").All(static option => !OptionString.Parse(option, "type")["type"].Is("none")));

    private static bool IsDefault(SpecDraft draft) => !draft.Named("vnc", "spice", "nographic", "curses", "sdl").Any()
        && draft.Named("display").All(static option => OptionString.Parse(option, "type")["type"].Is("default"));

    /// <summary>qemu_setup_display: GTK or SDL where the binary has them, else VNC on the first free port of localhost.</summary>
    private static void SpellOutDefault(SpecDraft draft)
    {
        if (draft.Facts.Displays is not { } displays)
        {
            draft.Warn("display-default", "display", "no display is asked for; what the binary opens by itself is not known", "add -display none or -vnc ADDRESS");
        }
        else if (displays.FirstOrDefault(static display => display.IsOneOf("gtk", "sdl")) is { } window)
        {
            WarnAboutWindow(draft, window);
        }
        else
        {
            draft.Options.Add(new SpecOption("vnc", "localhost:0,to=99,id=default"));
            draft.Change("The VNC display that QEMU opens by itself is spelt out: -vnc localhost:0,to=99.");
        }
    }

    private static SpecOption Vnc(SpecDraft draft, SpecOption option, ref bool first)
    {
        OptionString vnc = OptionString.Parse(option, "vnc");
        string address = vnc["vnc"] ?? "none";
        if (address.Is("none"))
            return option;
        string id = vnc["id"] ?? $"vnc {address}";
        bool reverse = vnc.GetSwitch("reverse") == true;
        if (reverse || !first)
        {
            draft.Warn("vnc-not-restored", id, reverse ? "a reverse connection is not made again" : "only the first VNC display listens again after an update",
                "use one listening VNC display");
        }
        else
        {
            draft.AfterCommit.Add(new AfterCommitAction("display-update", JsonOptions.Render(new JsonObject
            {
                ["type"] = "vnc",
                ["addresses"] = new JsonArray(Address(address, vnc, option)),
            }), $"VNC listens on {address} again."));
            draft.Warn("vnc-clients", id, "viewers are disconnected when the old VMM ends, and have to connect again; the socket stays, so that they can at once", "");
            draft.Change($"The target of an update starts without VNC on {address} and gets its socket after the old VMM has exited.");
        }
        first = false;
        if (vnc.Has("websocket"))
            draft.Warn("vnc-websocket", id, "the WebSocket port is not opened again after an update", "use a WebSocket proxy in front of the VNC port");
        if (vnc.GetSwitch("password") == true)
            draft.Warn("vnc-password", id, "a password that was set in the monitor stays in the old VMM; nobody gets in until it is set again", "use password-secret=");
        return option with { TargetValue = vnc.Without("to", "websocket", "reverse", "ipv4", "ipv6").With("vnc", "none").ToString() };
    }

    private static JsonObject Address(string address, OptionString vnc, SpecOption option)
    {
        if (address.Begins("unix:"))
            return new JsonObject { ["type"] = "unix", ["path"] = address[5..] };
        int colon = address.LastIndexOf(':');
        if (colon < 0 || !QemuText.TryNumber(address[(colon + 1)..], out int display))
            throw new CommandLineException(option.ToString(), $"'{address}' is no VNC display", "write HOST:DISPLAY or unix:PATH");
        string host = address[..colon];
        if (host.StartsWith('[') && host.EndsWith(']'))
            host = host[1..^1];
        var result = new JsonObject { ["type"] = "inet", ["host"] = host, ["port"] = QemuText.Number(VncPort + display) };
        if (QemuText.TryNumber(vnc["to"], out int to))
            result["to"] = VncPort + to;
        foreach (string family in (string[])["ipv4", "ipv6"])
        {
            if (vnc.GetSwitch(family) is { } wanted)
                result[family] = wanted;
        }
        return result;
    }

    private static SpecOption Window(SpecDraft draft, SpecOption option)
    {
        switch (OptionString.Parse(option, "type")["type"])
        {
            case ("gtk" or "sdl" or "cocoa") and var window:
                WarnAboutWindow(draft, window);
                break;
            case "curses":
                draft.Fail("display-curses", "display", "the terminal cannot be drawn on by two processes", "use -nographic, or -display none with -vnc ADDRESS");
                break;
            case "dbus":
                draft.Fail("display-dbus", "display", "D-Bus display clients are connected to one process", "use VNC: -vnc ADDRESS");
                break;
            case "spice-app":
                draft.Fail("display-spice", "display", "SPICE connections belong to one process", "use VNC: -vnc ADDRESS");
                break;
            default:
                break;
        }
        return option;
    }

    private static void WarnAboutWindow(SpecDraft draft, string window) =>
        draft.Warn("display-window", "display", $"the new VMM opens a {window} window of its own while an update is prepared; the old one closes after it",
            "use -display none, with -vnc ADDRESS where a screen is wanted");

    private static SpecOption Refuse(SpecDraft draft, SpecOption option, string id, string evidence, string fix)
    {
        draft.Fail(id, option.ToString(), evidence, fix);
        return option;
    }
}
