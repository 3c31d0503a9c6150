namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Pure: which QMP commands may run while a new VMM is being built beside the old one.</summary>
internal static class CommandKinds
{
    /// <summary>Whether a command could change the machine, its run state or a migration. Unknown ones are taken for changes.</summary>
    public static bool MayChange(string command) =>
        !(command.StartsWith("query-", StringComparison.Ordinal)
            || command.StartsWith("x-query-", StringComparison.Ordinal)
            || command is "qom-get" or "qom-list" or "qom-list-get" or "qom-list-types" or "qom-list-properties" or "device-list-properties"
                or "qmp_capabilities" or "getfd" or "closefd" or "screendump" or "send-key" or "input-send-event"
                or "ringbuf-read" or "ringbuf-write" or "guest-ping");
}
