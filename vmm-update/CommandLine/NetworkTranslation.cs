using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Network backends.</summary>
internal static class NetworkTranslation
{
    public static void Apply(SpecDraft draft)
    {
        int unnamed = 0;
        draft.Rewrite(option => option.Name.IsOneOf("netdev", "nic", "net") ? [Translate(draft, option, ref unnamed)] : [option]);
        if (!draft.HasOption("nodefaults") && !draft.Named("netdev", "nic", "net").Any())
            WarnAboutUserNetwork(draft, "default network");
    }

    /// <summary>What a backend means for an update; for hot-plugged backends too.</summary>
    public static SpecOption Translate(SpecDraft draft, SpecOption option, OptionString backend, string id)
    {
        switch (backend["type"])
        {
            case "user":
                return User(draft, option, backend, id);
            case "tap" or "bridge":
                Tap(draft, backend, id);
                break;
            case "socket":
                Socket(draft, backend, id);
                break;
            case "stream" or "dgram":
                Stream(draft, backend, id);
                break;
            case "vhost-user":
                draft.Fail("vhost-user", id, "the vhost-user process serves one VMM at a time, so a second one cannot start beside the first",
                    "use a tap device whose descriptor is passed in (-netdev tap,fd=N)");
                break;
            case "vhost-vdpa":
                draft.Fail("vhost-vdpa", id, "the vDPA device belongs to one process", "use a tap device");
                break;
            case "l2tpv3":
                draft.Fail("network-port", id, "the tunnel's local port cannot be bound twice", "put the tunnel on the host and a tap device to the guest");
                break;
            case "af-xdp" or "netmap":
                draft.Fail("network-queue", id, "the host's queues belong to one process", "use a tap device");
                break;
            case "passt":
                if (backend.Pairs.Any(static pair => pair.Key.Begins("tcp-ports") || pair.Key.Begins("udp-ports")))
                    draft.Fail("network-port", id, "every VMM starts a passt of its own, and the forwarded ports cannot be bound twice", "forward the ports on the host");
                else
                    draft.Warn("network-reconnect", id, "every VMM starts a passt of its own: the guest's connections to the outside are cut", "use a tap device");
                break;
            case "vde":
                draft.Warn("network-reconnect", id, "both VMMs are connected to the switch while an update runs, each at a port of its own", "use a tap device");
                break;
            default:
                break;
        }
        return option;
    }

    private static SpecOption Translate(SpecDraft draft, SpecOption option, ref int unnamed)
    {
        OptionString backend = OptionString.Parse(option, "type");
        string id = backend["id"] ?? "";
        if (id.Length == 0 && backend["type"].Is("user") && backend.GetAll("hostfwd").Any())
        {
            // hostfwd_add finds the backend by its id.
            id = $"user{QemuText.Number(unnamed++)}";
            backend = backend.With("id", id);
            option = option with { Value = backend.ToString() };
        }
        return Translate(draft, option, backend, id.Length == 0 ? option.ToString() : id);
    }

    private static SpecOption User(SpecDraft draft, SpecOption option, OptionString backend, string id)
    {
        WarnAboutUserNetwork(draft, id);
        string[] rules = [.. backend.GetAll("hostfwd")];
        if (rules.Length == 0)
            return option;
        foreach (string rule in rules)
        {
            draft.AfterCommit.Add(HumanCommand($"hostfwd_add {id} {rule}", $"The forwarded port {rule} of {id} is opened again."));
        }
        draft.Warn("host-forward", id, $"forwarded ports ({string.Join(", ", rules)}) are closed until the old VMM has exited; connections through them are cut", "");
        draft.Change($"The target of an update starts {id} without hostfwd and gets it after the old VMM has exited.");
        return option with { TargetValue = backend.Without("hostfwd").ToString() };
    }

    private static void Tap(SpecDraft draft, OptionString tap, string id)
    {
        bool vhost = tap.GetSwitch("vhost") == true || tap.GetSwitch("vhostforce") == true || tap.Has("vhostfd") || tap.Has("vhostfds");
        if (vhost)
        {
            draft.Fail("vhost", id, "the kernel's vhost worker is bound to the memory of one process; QEMU cannot hand it over",
                "turn vhost off (vhost=off, without vhostfd)");
        }
        if (tap.Has("fd") || tap.Has("fds"))
        {
            draft.Warn("tap-shared", id, "both VMMs have the tap device while an update runs: a packet that arrives in that time can be lost", "");
        }
        else
        {
            draft.Fail("tap-not-held", id, "QEMU opens the tap device itself: a second VMM cannot attach to it while the first one has it",
                "create the tap device first and pass its descriptor: -netdev tap,fd=N");
        }
    }

    private static void Socket(SpecDraft draft, OptionString socket, string id)
    {
        if (socket.Has("listen"))
            Fail();
        else if (socket.Has("fd"))
            WarnShared(draft, id);
        else
            WarnReconnect(draft, id);

        void Fail() => draft.Fail("network-port", id, $"the address {socket["listen"]} cannot be bound twice", "let the other end listen, or use a tap device");
    }

    private static void Stream(SpecDraft draft, OptionString stream, string id)
    {
        bool datagram = stream["type"].Is("dgram");
        string? type = datagram ? stream["local.type"] : stream["addr.type"];
        if (type.Is("fd"))
            WarnShared(draft, id);
        else if (datagram ? type.Is("unix") : stream.GetSwitch("server") == true)
            draft.Fail("network-port", id, "the listening address cannot be bound twice", "let the other end listen (server=off), or use a tap device");
        else
            WarnReconnect(draft, id);
    }

    private static void WarnShared(SpecDraft draft, string id) =>
        draft.Warn("network-shared-connection", id, "one connection, which both VMMs hold while an update runs: frames of that time can be lost or torn",
            "use a tap device");

    private static void WarnReconnect(SpecDraft draft, string id) =>
        draft.Warn("network-reconnect", id, "every VMM connects anew: the other end sees a second connection, then the first one closing",
            "make sure that the other end accepts several connections, or use a tap device");

    private static void WarnAboutUserNetwork(SpecDraft draft, string id) =>
        draft.Warn("user-network", id, "the guest's connections through QEMU's user network are cut by an update", "use a tap device");

    /// <summary>A command of the human monitor; it answers an error as text, not as a QMP error: any answer but an empty one is a failure.</summary>
    internal static AfterCommitAction HumanCommand(string command, string why) =>
        new("human-monitor-command", JsonOptions.Render(new JsonObject { ["command-line"] = command }), why);
}
