namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Options as one binary spells them: what QEMU renamed between 7.2 and 11.1.</summary>
internal static class BinaryDialect
{
    public static IEnumerable<SpecOption> For(BinaryFacts facts, VmSpec spec, SpecOption option)
    {
        switch (option.Name)
        {
            case "machine":
                return [Machine(facts, spec, option)];
            // Replaced by -run-with.
            case "runas" when facts.IsAtLeast(9, 1):
                return [new SpecOption("run-with", OptionString.Empty.With("user", option.Text).ToString())];
            case "chroot" when facts.IsAtLeast(8, 1):
                return [new SpecOption("run-with", OptionString.Empty.With("chroot", option.Text).ToString())];
            case "async-teardown" when facts.IsAtLeast(8, 1):
                return [new SpecOption("run-with", "async-teardown=on")];
            case "run-with" when !facts.IsAtLeast(9, 1):
                return RunWith(facts, option);
            case "singlestep" when facts.IsAtLeast(9, 0):
                return [];
            case "chardev":
                return [Reconnect(facts, option)];
            default:
                return [option];
        }
    }

    private static SpecOption Machine(BinaryFacts facts, VmSpec spec, SpecOption option)
    {
        OptionString machine = OptionString.Parse(option, "type");
        foreach (string property in spec.AddedMachineProperties)
            machine = facts.MachineProperties.Contains(property) ? machine.With(property, true) : machine.Without(property);
        return option with { Value = machine.ToString() };
    }

    private static IEnumerable<SpecOption> RunWith(BinaryFacts facts, SpecOption option)
    {
        OptionString value = OptionString.Parse(option, null);
        if (value["user"] is { } user)
            yield return new SpecOption("runas", user);
        OptionString rest = value.Without("user");
        if (!facts.IsAtLeast(8, 1))
        {
            if (value["chroot"] is { } directory)
                yield return new SpecOption("chroot", directory);
            if (value.GetSwitch("async-teardown") == true)
                yield return new SpecOption("async-teardown", null);
            rest = rest.Without("chroot", "async-teardown");
        }
        if (rest.Pairs.Any())
            yield return option with { Value = rest.ToString() };
    }

    /// <summary>reconnect= in seconds became reconnect-ms= in 9.2, and was removed in 10.x.</summary>
    private static SpecOption Reconnect(BinaryFacts facts, SpecOption option)
    {
        OptionString chardev = OptionString.Parse(option, "backend");
        if (facts.IsAtLeast(9, 2) && QemuSize.TryParse(chardev["reconnect"], 'B', out long seconds))
            return option with { Value = chardev.Without("reconnect").With("reconnect-ms", seconds * 1000).ToString() };
        if (!facts.IsAtLeast(9, 2) && QemuSize.TryParse(chardev["reconnect-ms"], 'B', out long milliseconds))
            return option with { Value = chardev.Without("reconnect-ms").With("reconnect", (milliseconds + 999) / 1000).ToString() };
        return option;
    }
}
