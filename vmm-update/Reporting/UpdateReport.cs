using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>How an update ended.</summary>
public enum UpdateOutcome
{
    /// <summary>The guest runs on the new VMM.</summary>
    Updated,

    /// <summary>A dry run: the update would be attempted.</summary>
    Planned,

    /// <summary>Refused by the check; nothing was touched.</summary>
    Refused,

    /// <summary>Failed or was cancelled before the pause; the guest never left the old VMM.</summary>
    Failed,

    /// <summary>Failed after the pause began; the guest was resumed on the old VMM.</summary>
    RolledBack,

    /// <summary>The guest's state is unknown; an operator is needed.</summary>
    Unknown,
}

/// <summary>One end of an update.</summary>
/// <param name="Version">QEMU's version, e.g. <c>10.0.13</c>.</param>
/// <param name="Binary">Path of the executable.</param>
/// <param name="Pid">Process id; 0 when the VMM was never started.</param>
public sealed record VmmEnd(string Version, string Binary, int Pid);

/// <summary>One phase with its place in the update, in milliseconds.</summary>
/// <param name="Name">The phase.</param>
/// <param name="StartMs">Since the update began.</param>
/// <param name="DurationMs">How long it took.</param>
public sealed record PhaseTiming(UpdatePhase Name, double StartMs, double DurationMs);

/// <summary>Why an update did not happen.</summary>
/// <param name="Code">Stable identifier.</param>
/// <param name="Message">Cause and object.</param>
/// <param name="Fix">What the operator can change.</param>
public sealed record ReportError(string Code, string Message, string Fix)
{
    /// <summary>The code of an update that was not begun because another one is under way.</summary>
    public const string Busy = "busy";
}

/// <summary>The document that <c>update</c> and <c>rollback</c> print with <c>--json</c>.</summary>
public sealed record UpdateReport
{
    /// <summary>Version of this document's form.</summary>
    public int Schema { get; init; } = 1;

    /// <summary>The VM's name.</summary>
    public required string Vm { get; init; }

    /// <summary>How it ended.</summary>
    public required UpdateOutcome Outcome { get; init; }

    /// <summary>The engine that was used or chosen; null when none fits.</summary>
    public string? Engine { get; init; }

    /// <summary>From when on the update can only go forward; null when no engine fits.</summary>
    public PointOfNoReturn? PointOfNoReturn { get; init; }

    /// <summary>The VMM the guest ran on before.</summary>
    public required VmmEnd From { get; init; }

    /// <summary>The VMM the guest was to run on.</summary>
    public required VmmEnd To { get; init; }

    /// <summary>STOP of the old to RESUME of the new VMM (or of the old after a rollback), by the events' own timestamps; null when the guest was not paused.</summary>
    public double? PauseMs { get; init; }

    /// <summary>From the request to the last phase's end.</summary>
    public double TotalMs { get; init; }

    /// <summary>When the update began (UTC).</summary>
    public DateTimeOffset Started { get; init; }

    /// <summary>The phases that were entered, in order.</summary>
    public ImmutableArray<PhaseTiming> Phases { get; init; } = [];

    /// <summary>What the check found.</summary>
    public ImmutableArray<Finding> Findings { get; init; } = [];

    /// <summary>Why it failed; null when it did not.</summary>
    public ReportError? Error { get; init; }

    /// <summary>The process exit code that INTERFACE assigns to this outcome.</summary>
    [JsonIgnore]
    public int ExitCode => Outcome switch
    {
        UpdateOutcome.Updated or UpdateOutcome.Planned => Cli.ExitCodes.Done,
        UpdateOutcome.Refused => Cli.ExitCodes.Refused,
        UpdateOutcome.Failed when Error?.Code == ReportError.Busy => Cli.ExitCodes.Busy,
        UpdateOutcome.Failed => Cli.ExitCodes.Failed,
        UpdateOutcome.RolledBack => Cli.ExitCodes.ResumedOnOld,
        _ => Cli.ExitCodes.StateUnknown,
    };
}
