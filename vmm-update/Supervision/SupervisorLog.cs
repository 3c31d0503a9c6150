using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What a supervisor logs.</summary>
internal static partial class SupervisorLog
{
    private static readonly Func<ILogger, string, IDisposable?> VmScope = LoggerMessage.DefineScope<string>("VM {Vm}");

    /// <summary>All that is logged until it ends, by whatever continues from here, is of this VM.</summary>
    public static IDisposable? OfVm(ILogger logger, string name) => VmScope(logger, name);

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Name} started: QEMU {Version} (pid {Pid}), QMP on {Socket}")]
    public static partial void Started(ILogger logger, string name, string version, int pid, string socket);

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Name} taken over: QEMU {Version} (pid {Pid}), QMP on {Socket}")]
    public static partial void TakenOver(ILogger logger, string name, string version, int pid, string socket);

    [LoggerMessage(Level = LogLevel.Information, Message = "update {From} -> {To} with engine {Engine}: {Outcome} in phase {Phase}, pause {PauseMs} ms {Error}")]
    public static partial void UpdateEnded(ILogger logger, UpdateOutcome outcome, string from, string to, string? engine, UpdatePhase? phase, double? pauseMs, string? error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "fault points armed: {Faults}")]
    public static partial void FaultsArmed(ILogger logger, string faults);

    [LoggerMessage(Level = LogLevel.Error, Message = "{File} could not be written")]
    public static partial void HistoryNotWritten(ILogger logger, string file, Exception exception);

    [LoggerMessage(Level = LogLevel.Information, Message = "waiting for a client on each of: {Consoles}")]
    public static partial void AwaitsClients(ILogger logger, string consoles);

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Name} ended: {Status}")]
    public static partial void Ended(ILogger logger, string name, string status);

    [LoggerMessage(Level = LogLevel.Warning, Message = "client {Client}: {Problem}")]
    public static partial void ClientTrouble(ILogger logger, string client, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the connection to the VMM broke ({Problem}); connecting anew")]
    public static partial void Reconnecting(ILogger logger, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the guardian ended ({Status}); starting another")]
    public static partial void GuardianLost(ILogger logger, string status);

    [LoggerMessage(Level = LogLevel.Information, Message = "supervisor {FromVersion} ({From}) replaced by {ToVersion} ({To}); clients waited {UnservedMs} ms")]
    public static partial void Replaced(ILogger logger, string fromVersion, string from, string toVersion, string to, double unservedMs);

    [LoggerMessage(Level = LogLevel.Warning, Message = "supervisor not replaced by {Program}: {Why}")]
    public static partial void NotReplaced(ILogger logger, string program, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the descriptor kept as {Name} is put aside, and the console opened anew: {Why}")]
    public static partial void StoredDescriptorRefused(ILogger logger, string name, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "memory of devices: {What}")]
    public static partial void DeviceMemory(ILogger logger, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "recovery: {What}")]
    public static partial void Recovered(ILogger logger, string what);
}
