namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>One pinned <c>-machine</c> from all that the user gave.</summary>
internal static class MachineTranslation
{
    /// <summary>The user's machine options merged in order, as QEMU merges them.</summary>
    public static OptionString Merge(IEnumerable<SpecOption> machineOptions)
    {
        OptionString merged = OptionString.Parse("", "type");
        foreach (SpecOption option in machineOptions)
        {
            foreach ((string key, string value) in OptionString.Parse(option, "type").Pairs)
                merged = merged.With(key.Replace('_', '-'), value);
        }
        return merged;
    }

    /// <summary>The canonical machine type of a command line.</summary>
    /// <exception cref="CommandLineException">None is given and the binary has no default.</exception>
    public static string Resolve(IEnumerable<SpecOption> options, BinaryFacts facts)
    {
        string? type = Merge(options.Where(IsMachine))["type"] ?? facts.DefaultMachine;
        return type is null
            ? throw new CommandLineException("-machine", "no machine type is given and this QEMU has no default", "add -machine TYPE")
            : facts.Canonical(type);
    }

    public static void Apply(SpecDraft draft)
    {
        OptionString machine = Merge(draft.Options.Where(IsMachine));
        string? given = machine["type"];
        draft.MachineType = Resolve(draft.Options, draft.Facts);
        if (!given.Is(draft.MachineType))
        {
            draft.Change(given is null
                ? $"The default machine type was pinned: -machine {draft.MachineType}."
                : $"The machine type {given} is an alias and was pinned: -machine {draft.MachineType}.");
        }
        machine = Typed(machine, draft.MachineType);
        if (!draft.Settings.Running)
        {
            if (!machine.Has("aux-ram-share"))
                draft.AddedMachineProperties.Add("aux-ram-share");
            machine = Add(draft, machine, "aux-ram-share", "so that QEMU's own RAM outside the backends can be handed over");
            // Must be the same at both ends: a target that expects the description waits for it (qemu_loadvm_state).
            machine = Add(draft, machine, "suppress-vmdesc", "which keeps a description that no update reads out of the state, and shortens the pause");
        }

        if (draft.Options.Exists(static option => option.Name.Is("no-acpi")))
            machine = machine.With("acpi", false);
        if (draft.Options.Exists(static option => option.Name.Is("no-hpet")))
            machine = machine.With("hpet", false);

        if (machine.GetSwitch("aux-ram-share") == false)
        {
            draft.Warn("aux-ram-share", "machine", "aux-ram-share=off: the cpr engines are not available, only shared-ram is",
                "remove aux-ram-share=off from -machine");
        }
        if ((machine["confidential-guest-support"] ?? machine["memory-encryption"]) is { } guard)
        {
            draft.Fail("confidential-guest", guard, "the guest's memory is encrypted or private to it: another process cannot map it",
                "run the guest without SEV, SNP or TDX");
        }

        int at = draft.Options.FindIndex(IsMachine);
        draft.Options.RemoveAll(static option => IsMachine(option) || option.Name.IsOneOf("no-acpi", "no-hpet"));
        draft.Options.Insert(Math.Max(0, Math.Min(at, draft.Options.Count)), new SpecOption("machine", machine.ToString()));
    }

    /// <summary>Changes the one <c>-machine</c> option of a draft.</summary>
    public static void Update(SpecDraft draft, Func<OptionString, OptionString> change)
    {
        int at = draft.Options.FindIndex(IsMachine);
        SpecOption option = draft.Options[at];
        draft.Options[at] = option with { Value = change(OptionString.Parse(option, "type")).ToString() };
    }

    public static bool IsMachine(SpecOption option) => option.Name.IsOneOf("machine", "M");

    /// <summary>The type first, as the implied key.</summary>
    private static OptionString Typed(OptionString machine, string type)
    {
        OptionString result = OptionString.Parse(type, "type");
        foreach ((string key, string value) in machine.Pairs)
        {
            if (!key.Is("type"))
                result = result.With(key, value);
        }
        return result;
    }

    private static OptionString Add(SpecDraft draft, OptionString machine, string property, string why)
    {
        if (machine.Has(property) || !draft.Facts.MachineProperties.Contains(property))
            return machine;
        draft.Change($"-machine {property}=on was added, {why}.");
        return machine.With(property, true);
    }
}
