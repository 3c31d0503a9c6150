using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Network backends.</summary>
internal static class NetworkTranslation
{
    public static void Apply(SpecDraft draft)
    {
        int unnamed = 0;
        draft.Rewrite(option => option.Name.IsOneOf("netdev", "nic", "net") ? [TapTranslation.Hold(draft, option) ?? Translate(draft, option, ref unnamed)] : [option]);
        if (!draft.HasOption("nodefaults") && !draft.Named("netdev", "nic", "net").Any())
            WarnAboutUserNetwork(draft, "default network");
    }

    /// <summary>What a backend means for an update; for hot-plugged backends too.</summary>
    public static SpecOption Translate(TranslationNotes notes, SpecOption option, OptionString backend, string id)
    {
        switch (backend["type"])
        {
            case "user":
                return User(notes, option, backend, id);
            case "tap" or "bridge":
                Tap(notes, backend, id);
                break;
            case "socket":
                Socket(notes, backend, id);
                break;
            case "stream" or "dgram":
                Stream(notes, backend, id);
                break;
            case "vhost-user":
                notes.Fail("vhost-user", id, "the vhost-user process serves one VMM at a time, so a second one cannot start beside the first",
                    "use a tap device whose descriptor is passed in (-netdev tap,fd=N)");
                break;
            case "vhost-vdpa":
                notes.Fail("vhost-vdpa", id, "the vDPA device belongs to one process", "use a tap device");
                break;
            case "l2tpv3":
                notes.Fail("network-port", id, "the tunnel's local port cannot be bound twice", "put the tunnel on the host and a tap device to the guest");
                break;
            case "af-xdp" or "netmap":
                notes.Fail("network-queue", id, "the host's queues belong to one process", "use a tap device");
                break;
            case "passt":
                if (backend.Pairs.Any(static pair => pair.Key.Begins("tcp-ports") || pair.Key.Begins("udp-ports")))
                    notes.Fail("network-port", id, "every VMM starts a passt of its own, and the forwarded ports cannot be bound twice", "forward the ports on the host");
                else
                    notes.Warn("network-reconnect", id, "every VMM starts a passt of its own: the guest's connections to the outside are cut", "use a tap device");
                break;
            case "vde":
                notes.Warn("network-reconnect", id, "both VMMs are connected to the switch while an update runs, each at a port of its own", "use a tap device");
                break;
            default:
                break;
        }
        return option;
    }

    private static SpecOption Translate(TranslationNotes notes, SpecOption option, ref int unnamed)
    {
        OptionString backend = OptionString.Parse(option, "type");
        if (option.Name.Is("nic") && !backend.Has("type"))
            backend = backend.With("type", "user");
        string id = backend["id"] ?? "";
        if (id.Length == 0 && backend["type"].Is("user") && backend.GetAll("hostfwd").Any())
        {
            // hostfwd_add finds the backend by its id.
            id = $"user{QemuText.Number(unnamed++)}";
            backend = backend.With("id", id);
            option = option with { Value = backend.ToString() };
        }
        return Translate(notes, option, backend, id.Length == 0 ? option.ToString() : id);
    }

    private static SpecOption User(TranslationNotes notes, SpecOption option, OptionString backend, string id)
    {
        WarnAboutUserNetwork(notes, id);
        string[] rules = [.. backend.GetAll("hostfwd")];
        if (rules.Length == 0)
            return option;
        foreach (string rule in rules)
        {
            notes.AfterCommit.Add(HumanCommand($"hostfwd_add {id} {rule}", $"The forwarded port {rule} of {id} is opened again."));
        }
        notes.Warn("host-forward", id, $"forwarded ports ({string.Join(", ", rules)}) are closed until the old VMM has exited; connections through them are cut", "");
        notes.Change($"The target of an update starts {id} without hostfwd and gets it after the old VMM has exited.");
        return option with { TargetValue = backend.Without("hostfwd").ToString() };
    }

    private static void Tap(TranslationNotes notes, OptionString tap, string id)
    {
        TapTranslation.Vhost(notes, tap, id);
        if (tap.Has("fd") || tap.Has("fds"))
        {
            notes.Warn("tap-shared", id, "both VMMs have the tap device while an update runs: a packet that arrives in that time can be lost", "");
        }
        else
        {
            notes.Fail("tap-not-held", id, "QEMU opens the tap device itself: a second VMM cannot attach to it while the first one has it",
                "create the tap device first and pass its descriptor: -netdev tap,fd=N");
        }
    }

    private static void Socket(TranslationNotes notes, OptionString socket, string id)
    {
        if (socket.Has("listen"))
            Fail();
        else if (socket.Has("fd"))
            WarnShared(notes, id);
        else
            WarnReconnect(notes, id);

        void Fail() => notes.Fail("network-port", id, $"the address {socket["listen"]} cannot be bound twice", "let the other end listen, or use a tap device");
    }

    private static void Stream(TranslationNotes notes, OptionString stream, string id)
    {
        bool datagram = stream["type"].Is("dgram");
        string? type = datagram ? stream["local.type"] : stream["addr.type"];
        if (type.Is("fd"))
            WarnShared(notes, id);
        else if (datagram ? type.Is("unix") : stream.GetSwitch("server") == true)
            notes.Fail("network-port", id, "the listening address cannot be bound twice", "let the other end listen (server=off), or use a tap device");
        else
            WarnReconnect(notes, id);
    }

    private static void WarnShared(TranslationNotes notes, string id) =>
        notes.Warn("network-shared-connection", id, "one connection, which both VMMs hold while an update runs: frames of that time can be lost or torn",
            "use a tap device");

    private static void WarnReconnect(TranslationNotes notes, string id) =>
        notes.Warn("network-reconnect", id, "every VMM connects anew: the other end sees a second connection, then the first one closing",
            "make sure that the other end accepts several connections, or use a tap device");

    private static void WarnAboutUserNetwork(TranslationNotes notes, string id) =>
        notes.Warn("user-network", id, "the guest's connections through QEMU's user network are cut by an update", "use a tap device");

    /// <summary>A command of the human monitor; it answers an error as text, not as a QMP error: any answer but an empty one is a failure.</summary>
    internal static AfterCommitAction HumanCommand(string command, string why) =>
        new("human-monitor-command", JsonOptions.Render(new JsonObject { ["command-line"] = command }), why);
}
