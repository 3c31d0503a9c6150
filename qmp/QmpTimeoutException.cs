namespace CprSharp.Qmp;

/// <summary>
/// The deadline of one command passed. The connection stays usable. A command that was sent may still be executed by the VMM; its late
/// reply is discarded. A command that was still waiting for its turn is never sent.
/// </summary>
public sealed class QmpTimeoutException : TimeoutException
{
    /// <param name="command">The command.</param>
    /// <param name="timeout">The deadline that passed, counted from the call.</param>
    /// <param name="wasSent">Whether the VMM has received the command.</param>
    public QmpTimeoutException(string command, TimeSpan timeout, bool wasSent)
        : base(wasSent
            ? $"{command}: no reply within {timeout.TotalSeconds:0.###} s; the command was sent and may still take effect."
            : $"{command}: not sent within {timeout.TotalSeconds:0.###} s because earlier commands were not answered; it will not be sent.")
    {
        Command = command;
        Timeout = timeout;
        WasSent = wasSent;
    }

    /// <summary>The command.</summary>
    public string Command { get; }

    /// <summary>The deadline that passed, counted from the call.</summary>
    public TimeSpan Timeout { get; }

    /// <summary>Whether the VMM has received the command, and so may execute it.</summary>
    public bool WasSent { get; }
}
