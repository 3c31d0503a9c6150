namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Spells out QEMU's default monitor, which QEMU leaves away as soon as it sees the supervisor's own.</summary>
/// <remarks>qemu_create_default_devices in system/vl.c.</remarks>
internal static class DefaultMonitor
{
    private static readonly string[] SerialDevices = ["isa-serial", "xen-console"];

    public static void Apply(SpecDraft draft)
    {
        if (draft.HasOption("nodefaults") || draft.Named("monitor", "qmp", "qmp-pretty", "mon").Any()
            || draft.Named("serial", "parallel").Any(static option => option.Text.Begins("mon:")))
            return;
        if (draft.HasOption("nographic"))
        {
            bool defaultSerial = !draft.HasOption("serial") && !Devices(draft).Any(static driver => SerialDevices.Contains(driver, StringComparer.Ordinal));
            draft.Options.Add(defaultSerial ? new SpecOption("serial", "mon:stdio") : new SpecOption("monitor", "stdio"));
            draft.Change(defaultSerial
                ? "What -nographic puts on the terminal is spelt out: -serial mon:stdio."
                : "What -nographic puts on the terminal is spelt out: -monitor stdio.");
        }
        else if (DisplayTranslation.IsVisible(draft))
        {
            draft.Options.Add(new SpecOption("monitor", "vc:80Cx24C"));
            draft.Change("The default monitor on a virtual console is spelt out.");
        }
    }

    private static IEnumerable<string> Devices(SpecDraft draft) =>
        draft.Named("device").Select(static option => OptionString.Parse(option, "driver")["driver"] ?? "")
            .Concat(draft.Named("global").Select(static option => option.Text.Split('.')[0]));
}
