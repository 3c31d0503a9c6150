namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Who uses a character device.</summary>
internal static class ConsoleUse
{
    /// <summary>Options that take a character device for a stream of bytes; so do the devices below.</summary>
    private static readonly string[] PlainOptions = ["serial", "parallel", "debugcon", "mon", "chardev"];

    private static readonly string[] PlainDevices =
    [
        "virtserialport", "virtconsole", "isa-serial", "pci-serial", "pci-serial-2x", "pci-serial-4x", "usb-serial", "isa-debugcon", "isa-parallel",
        "sclpconsole", "sclplmconsole", "spapr-vty", "ipoctal232",
    ];

    /// <summary>Whether nothing but bytes goes through it. Others, vhost-user above all, pass descriptors, or take a second connection amiss.</summary>
    public static bool IsPlain(SpecDraft draft, string id) =>
        !draft.Settings.Running && draft.Options.TrueForAll(option => !Names(option, id) || TakesBytes(option));

    /// <summary>Whether it is a human monitor's; those of QMP are gone by now.</summary>
    public static bool IsMonitor(SpecDraft draft, string id) =>
        draft.Named("mon").Any(option => OptionString.Parse(option, "chardev")["chardev"].Is(id));

    /// <summary>Whether it is a virtio-serial port's that waits for room, rather than drop.</summary>
    public static bool IsPort(VmSpec spec, string id) =>
        spec.Options.Any(option => option.Name.Is("device") && OptionString.Parse(option, "driver") is var device
            && device["driver"].Is("virtserialport") && device["chardev"].Is(id));

    private static bool TakesBytes(SpecOption option) =>
        option.Name.IsOneOf(PlainOptions) || (option.Name.Is("device") && OptionString.Parse(option, "driver")["driver"].IsOneOf(PlainDevices));

    private static bool Names(SpecOption option, string id) =>
        option.Name.IsOneOf("device", "netdev", "net", "nic", "object", "tpmdev", "gdb", "fsdev", "global", "set", "qtest")
        && OptionString.Parse(option, null).Pairs.Any(pair => (pair.Value.Is(id) && !pair.Key.Is("id")) || pair.Value.Is("chardev:" + id));
}
