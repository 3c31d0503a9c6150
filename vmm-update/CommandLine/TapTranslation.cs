namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Tap devices: the supervisor opens them in QEMU's place, and holds them.</summary>
internal static class TapTranslation
{
    private const string DefaultScript = "/etc/qemu-ifup";
    private const string DefaultDownScript = "/etc/qemu-ifdown";
    private const string DefaultBridge = "br0";

    private static readonly string[] Keys = ["ifname", "script", "downscript", "vnet_hdr", "queues", "br", "helper", "fd", "fds"];

    /// <summary>The backend on held queues; <see langword="null"/> for one that is no tap, or that another QEMU already has.</summary>
    public static SpecOption? Hold(SpecDraft draft, SpecOption option)
    {
        OptionString tap = OptionString.Parse(option, "type");
        if (draft.Settings.Running || !tap["type"].IsOneOf("tap", "bridge"))
            return null;
        string id = tap["id"] is { Length: > 0 } given ? given : option.ToString();
        string[] numbers = [.. Sources(draft, tap, option).Select(source => QemuText.Number(Take(draft, id, source)))];
        Vhost(draft, tap, id);
        draft.Pass("tap-held", id, "frames that arrive in the pause wait in the tap device's queue");
        draft.Change($"The tap device of {id} is held by the supervisor.");
        OptionString held = tap.Without(Keys).With("type", "tap").With(numbers.Length == 1 ? "fd" : "fds", string.Join(':', numbers));
        return option with { Value = held.ToString() };
    }

    public static void Vhost(TranslationNotes notes, OptionString tap, string id)
    {
        if (tap.GetSwitch("vhost") == true || tap.GetSwitch("vhostforce") == true || tap.Has("vhostfd") || tap.Has("vhostfds"))
        {
            notes.Fail("vhost", id, "the kernel's vhost worker belongs to one process, and a second one beside it has not been tried",
                "turn vhost off (vhost=off, without vhostfd)");
        }
    }

    private static IEnumerable<(TapSource Source, int? Number)> Sources(SpecDraft draft, OptionString tap, SpecOption option)
    {
        if ((tap["fd"] ?? tap["fds"]) is { } descriptors)
        {
            foreach (string descriptor in descriptors.Split(':'))
            {
                if (!QemuText.TryNumber(descriptor, out int number))
                    throw new CommandLineException(option.ToString(), $"fd={descriptor} names a descriptor that only a monitor could have given", "use its number");
                yield return (new TapInherited(), number);
            }
        }
        else if (tap["type"].Is("bridge") || tap.Has("helper"))
        {
            yield return (new TapHelper(tap["helper"], tap["br"] ?? DefaultBridge), null);
        }
        else
        {
            int queues = QemuText.TryNumber(tap["queues"], out int wanted) ? Math.Max(1, wanted) : 1;
            for (int i = 0; i < queues; i++)
            {
                yield return (new TapInterface(tap["ifname"] ?? "", Script(tap["script"], DefaultScript), Script(tap["downscript"], DefaultDownScript),
                    tap.GetSwitch("vnet_hdr") != false, queues > 1), null);
            }
        }
    }

    private static string? Script(string? given, string otherwise) => given is null ? otherwise : given.IsOneOf("no", "") ? null : given;

    private static int Take(SpecDraft draft, string id, (TapSource Source, int? Number) queue)
    {
        int number = queue.Number ?? draft.TakeNumber();
        draft.TakeInherited(number);
        draft.Descriptors.Add(new TapDescriptor(number, draft.TakeNumber(), id, queue.Source));
        return number;
    }
}
