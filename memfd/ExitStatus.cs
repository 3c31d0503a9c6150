using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>How a process ended: with a code of its own, or by a signal. Exactly one of the two is set.</summary>
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
