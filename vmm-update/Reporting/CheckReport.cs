using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>The one-word result of a check.</summary>
public enum Verdict
{
    /// <summary>The update can be made.</summary>
    Ready,

    /// <summary>The update can be made; read the warnings.</summary>
    ReadyWithWarnings,

    /// <summary>The update would be refused.</summary>
    Blocked,
}

/// <summary>What the check thinks of one engine.</summary>
/// <param name="Name">The engine's name.</param>
/// <param name="Eligible">Whether it could make this update.</param>
/// <param name="Reasons">Why not, or what speaks for it.</param>
/// <param name="ExpectedPauseMs">The pause that is expected, in milliseconds; null when not eligible.</param>
public sealed record EngineAssessment(string Name, bool Eligible, ImmutableArray<string> Reasons, double? ExpectedPauseMs)
{
    /// <summary>From when on an update with it could only go forward; null when it does not fit.</summary>
    public PointOfNoReturn? PointOfNoReturn { get; init; }
}

/// <summary>The document that <c>check</c> prints with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Vm">The VM's name.</param>
/// <param name="Verdict">The result.</param>
/// <param name="From">The VMM that runs the guest.</param>
/// <param name="To">The binary that was checked against.</param>
/// <param name="Engines">Each engine's assessment.</param>
/// <param name="Findings">Each thing looked at.</param>
public sealed record CheckReport(
    int Schema,
    string Vm,
    Verdict Verdict,
    VmmEnd From,
    VmmEnd To,
    ImmutableArray<EngineAssessment> Engines,
    ImmutableArray<Finding> Findings)
{
    /// <summary>The verdict that findings and engines amount to.</summary>
    public static Verdict Judge(IEnumerable<Finding> findings, IEnumerable<EngineAssessment> engines)
    {
        var worst = findings.Select(f => f.Severity).DefaultIfEmpty(Severity.Pass).Max();
        if (worst == Severity.Fail || !engines.Any(e => e.Eligible))
            return Verdict.Blocked;

        return worst == Severity.Warn ? Verdict.ReadyWithWarnings : Verdict.Ready;
    }
}
