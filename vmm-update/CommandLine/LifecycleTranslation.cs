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
        draft.Rewrite(option => option.Name switch
        {
            "daemonize" or "pidfile" => [],
            "S" or "incoming" or "loadvm" or "preconfig" => [option with { Scope = OptionScope.FirstStart }],
            _ => [option],
        });
    }
}
