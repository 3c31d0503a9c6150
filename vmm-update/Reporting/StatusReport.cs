using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>What runs where, for one VM.</summary>
public sealed record StatusReport
{
    /// <summary>The VM's name.</summary>
    public required string Vm { get; init; }

    /// <summary><c>supervised</c>, <c>unsupervised</c> (the guest runs, its supervisor does not) or <c>gone</c>.</summary>
    public required string Supervision { get; init; }

    /// <summary>QEMU's run state; empty when it cannot be asked.</summary>
    public required string RunState { get; init; }

    /// <summary>The VMM that runs the guest.</summary>
    public required VmmEnd Vmm { get; init; }

    /// <summary>Process id of the supervisor.</summary>
    public required int SupervisorPid { get; init; }

    /// <summary>The machine type, pinned.</summary>
    public required string MachineType { get; init; }

    /// <summary>The VM's QMP socket.</summary>
    public required string QmpSocket { get; init; }

    /// <summary>The binary before the last update; where <c>rollback</c> goes. Null when there was no update.</summary>
    public string? PreviousBinary { get; init; }

    /// <summary>The engine of the last update.</summary>
    public string? Engine { get; init; }

    /// <summary>When the last update was tried.</summary>
    public DateTimeOffset? LastUpdate { get; init; }

    /// <summary>How it ended.</summary>
    public string? LastOutcome { get; init; }

    /// <summary>Its pause in milliseconds.</summary>
    public double? LastPauseMs { get; init; }

    /// <summary>The update that is under way: its phase; null when none is.</summary>
    public string? UpdateUnderWay { get; init; }

    /// <summary>What CprSharp changed on the VM's command line.</summary>
    public ImmutableArray<string> Changes { get; init; } = [];
}

/// <summary>The document that <c>status</c> and <c>list</c> print with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Vms">The VMs, by name.</param>
public sealed record StatusDocument(int Schema, ImmutableArray<StatusReport> Vms);

/// <summary>The document that <c>history</c> prints with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Vm">The VM's name.</param>
/// <param name="Updates">Oldest first.</param>
public sealed record HistoryDocument(int Schema, string Vm, ImmutableArray<UpdateReport> Updates);

/// <summary>The document that <c>fault-points</c> prints with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="FaultPoints">In the order of an update.</param>
public sealed record FaultPointsDocument(int Schema, ImmutableArray<string> FaultPoints);

/// <summary>What a command prints with <c>--json</c> when it could not do anything.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Error">Why.</param>
public sealed record ErrorDocument(int Schema, ReportError Error);
