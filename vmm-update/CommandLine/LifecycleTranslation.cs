namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>How the process starts, and where it writes: what the supervisor does in QEMU's place, and what only the first VMM does.</summary>
internal static class LifecycleTranslation
{
    public static void Apply(SpecDraft draft)
    {
        draft.Daemonize = draft.HasOption("daemonize");
        draft.PidFile = draft.Named("pidfile").LastOrDefault()?.Value;
        if (draft.Daemonize)
            draft.Change("-daemonize is done by the supervisor.");
        if (draft.PidFile is not null)
            draft.Change("-pidfile is written by the supervisor, with its own process id.");
        draft.Rewrite(option => Translate(draft, option));
    }

    private static IEnumerable<SpecOption> Translate(SpecDraft draft, SpecOption option)
    {
        switch (option.Name)
        {
            case "daemonize" or "pidfile":
                return [];
            case "S" or "incoming" or "loadvm" or "preconfig":
                return [option with { Scope = OptionScope.FirstStart }];
            case "s":
                return [Debugger(draft, option, "tcp::1234")];
            case "gdb" when !option.Text.Is("none"):
                return [Debugger(draft, option, option.Text)];
            case "D":
                return [Log(draft, option)];
            case "trace" when OptionString.Parse(option, "enable") is var trace && trace.Has("file"):
                draft.Change($"The target of an update writes its trace to a file of its own, not to {trace["file"]}.");
                return [option with { TargetValue = trace.Without("file").ToString() }];
            case "readconfig":
                throw new CommandLineException(option.ToString(), "options in a configuration file are not read by the supervisor", "write them on the command line");
            case "qtest":
                draft.Fail("qtest", option.ToString(), "the test protocol drives one process", "remove -qtest");
                break;
            case "snapshot":
                DeviceFindings.Snapshot(draft, "-snapshot");
                break;
            case "icount" when OptionString.Parse(option, "shift") is var icount && icount.Has("rr") && !icount["rr"].Is("none"):
                draft.Fail("record-replay", "-icount", "a recording or replay belongs to one process", "remove rr=");
                break;
            case "plugin":
                draft.Warn("plugin", option.ToString(), "what a plugin has counted stays in the old VMM", "");
                break;
            case "xen-attach" or "xen-domid":
                draft.Fail("accelerator", option.ToString(), "guests under Xen are not handled", "use accel=kvm or accel=tcg");
                break;
            case "sandbox" when OptionString.Parse(option, "enable")["spawn"].Is("deny"):
                draft.Pass("sandbox", option.ToString(), "QEMU may not start programs: the exec engine is not available");
                break;
            case "bios" or "kernel" or "initrd" or "dtb" or "pflash" or "option-rom":
                draft.Pass("firmware-file", option.ToString(), "the file must still be there, and be the same, when an update's target starts");
                break;
            case "audiodev" or "audio" when OptionString.Parse(option, "driver") is var audio && audio["driver"].Is("wav"):
                draft.Warn("audio", audio["id"] ?? option.ToString(), "the new VMM begins the recording anew", "");
                break;
            default:
                break;
        }
        return [option];
    }

    private static SpecOption Debugger(SpecDraft draft, SpecOption option, string device)
    {
        draft.AfterCommit.Add(NetworkTranslation.HumanCommand($"gdbserver {device}", $"The debugger's port {device} is opened again."));
        draft.Warn("gdb", option.ToString(), "a debugger has to connect again after an update; its breakpoints are lost", "");
        return option with { Scope = OptionScope.FirstStart };
    }

    /// <summary>QEMU truncates its log; a %d in the name is the process id.</summary>
    private static SpecOption Log(SpecDraft draft, SpecOption option)
    {
        if (option.Text.Contains("%d", StringComparison.Ordinal))
            return option;
        draft.Change($"The target of an update logs to {option.Value}.PID, so that the log of the VMM before it stays.");
        return option with { TargetValue = option.Value + ".%d" };
    }
}
