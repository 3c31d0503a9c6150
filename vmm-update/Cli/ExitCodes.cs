namespace CprSharp.VmmUpdate.Cli;

/// <summary>Exit codes of the <c>cprsharp</c> program; part of its contract.</summary>
public static class ExitCodes
{
    /// <summary>Done.</summary>
    public const int Done = 0;

    /// <summary>Failed; the guest never left the old VMM.</summary>
    public const int Failed = 1;

    /// <summary>Usage error.</summary>
    public const int Usage = 2;

    /// <summary>Refused by the check.</summary>
    public const int Refused = 3;

    /// <summary>Failed after the pause began; the guest was resumed on the old VMM.</summary>
    public const int ResumedOnOld = 4;

    /// <summary>The guest's state is unknown; an operator is needed.</summary>
    public const int StateUnknown = 5;

    /// <summary>Another update is under way (EX_TEMPFAIL).</summary>
    public const int Busy = 75;

    /// <summary>Bad configuration (EX_CONFIG).</summary>
    public const int BadConfiguration = 78;
}
