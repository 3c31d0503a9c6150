namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Turns an ordinary QEMU command line into an updatable VM. Pure: reads nothing, opens nothing.</summary>
public static class Launch
{
    /// <summary>Translates a command line.</summary>
    /// <param name="line">The user's command line.</param>
    /// <param name="facts">What the binary and the machine type (see <see cref="ResolveMachine"/>) are capable of.</param>
    /// <param name="settings">What may be assumed about the host; <see cref="LaunchSettings.Default"/> when omitted.</param>
    /// <exception cref="CommandLineException">The command line cannot be run under supervision.</exception>
    public static LaunchTranslation Translate(QemuCommandLine line, BinaryFacts facts, LaunchSettings? settings = null)
    {
        ArgumentNullException.ThrowIfNull(line);
        ArgumentNullException.ThrowIfNull(facts);
        if (StartsNoGuest(line))
            return new LaunchTranslation(null, [.. line.ToArguments()]);
        IEnumerable<SpecOption> options = [.. Options(line), .. line.Images.Select(static image => new SpecOption("hda", image))];
        var draft = new SpecDraft(options, facts, settings ?? LaunchSettings.Default);
        LifecycleTranslation.Apply(draft);
        MachineTranslation.Apply(draft);
        if (!draft.Settings.Running)
            MemoryTranslation.Apply(draft);
        DefaultMonitor.Apply(draft);
        DisplayTranslation.Apply(draft);
        CharacterTranslation.Apply(draft);
        NetworkTranslation.Apply(draft);
        PassThroughTranslation.Apply(draft);
        DeviceFindings.Apply(draft);
        return new LaunchTranslation(draft.ToSpec(), [.. line.ToArguments()]);
    }

    /// <summary>The canonical machine type of a command line: what <see cref="BinaryFacts.MachineProperties"/> must be of.</summary>
    /// <exception cref="CommandLineException">None is given and the binary has no default.</exception>
    public static string ResolveMachine(QemuCommandLine line, BinaryFacts facts)
    {
        ArgumentNullException.ThrowIfNull(line);
        ArgumentNullException.ThrowIfNull(facts);
        return MachineTranslation.Resolve(Options(line), facts);
    }

    /// <summary>Numbers of the descriptors that a command line expects from who starts it.</summary>
    public static IReadOnlyCollection<int> NamedDescriptors(QemuCommandLine line)
    {
        ArgumentNullException.ThrowIfNull(line);
        return [.. Options(line).SelectMany(DescriptorNumbers.Mentioned).Where(static number => number > 2).Distinct()];
    }

    /// <summary>Whether the command line only asks QEMU something (help, version, lists) and starts no guest.</summary>
    public static bool StartsNoGuest(QemuCommandLine line)
    {
        ArgumentNullException.ThrowIfNull(line);
        return line.Options.Any(HelpRequest.Is);
    }

    private static IEnumerable<SpecOption> Options(QemuCommandLine line) =>
        line.Options.Select(static option => new SpecOption(option.Name, option.Value));
}
