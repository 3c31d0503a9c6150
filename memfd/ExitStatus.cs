using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>
/// How a process ended: with a code of its own, or by a signal. Neither is set when the status was lost, because somebody else
/// reaped the child or this process ignores SIGCHLD.
/// </summary>
/// <param name="Code">0 to 255.</param>
/// <param name="Signal">The signal's number.</param>
public readonly record struct ExitStatus(int? Code, int? Signal)
{
    /// <summary>For example <c>exit status 1</c> or <c>killed by SIGSEGV</c>.</summary>
    public override string ToString() => (Code, Signal) switch
    {
        ({ } code, _) => $"exit status {code}",
        (_, { } signal) => $"killed by {LibC.SignalName(signal)}",
        _ => "exit status unknown",
    };
}
