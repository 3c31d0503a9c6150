using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>What became of one VM in an update of all.</summary>
public enum FleetOutcome
{
    /// <summary>Its guest runs on the new VMM.</summary>
    Updated,

    /// <summary>The check would let it be updated; nothing was started (<c>--dry-run</c>).</summary>
    Planned,

    /// <summary>It ran on the new VMM already.</summary>
    AlreadyThere,

    /// <summary>Its guest had ended.</summary>
    Gone,

    /// <summary>The check refused.</summary>
    Refused,

    /// <summary>It failed; the guest never left the old VMM.</summary>
    Failed,

    /// <summary>It failed after the pause began; the guest was resumed on the old VMM.</summary>
    RolledBack,

    /// <summary>Nobody can say on which VMM the guest is.</summary>
    Unknown,

    /// <summary>Others had failed before its turn, or the command was interrupted.</summary>
    NotStarted,
}

/// <summary>One VM of an update of all.</summary>
/// <param name="Vm">The VM.</param>
/// <param name="Outcome">What became of it.</param>
/// <param name="Update">Its update, as <c>update</c> reports it; null when none was tried, or its supervisor was lost.</param>
/// <param name="Error">Why it failed.</param>
public sealed record FleetMember(string Vm, FleetOutcome Outcome, UpdateReport? Update, ReportError? Error);

/// <summary>The document that <c>update --all</c> prints with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="To">The binary.</param>
/// <param name="TotalMs">How long all of it took, in milliseconds.</param>
/// <param name="Vms">The VMs, by name.</param>
public sealed record FleetReport(int Schema, string To, double TotalMs, ImmutableArray<FleetMember> Vms)
{
    /// <summary>The gravest of what the VMs' own updates would exit with.</summary>
    internal int ExitCode
    {
        get
        {
            foreach (var (outcome, code) in Gravest)
            {
                if (Vms.Any(v => v.Outcome == outcome))
                    return code;
            }

            return 0;
        }
    }

    private static readonly (FleetOutcome, int)[] Gravest =
        [(FleetOutcome.Unknown, 5), (FleetOutcome.RolledBack, 4), (FleetOutcome.Failed, 1), (FleetOutcome.Refused, 3), (FleetOutcome.NotStarted, 1)];
}
