using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>A piece of a process's time.</summary>
/// <param name="Name">What it did.</param>
/// <param name="Kind">Which kind of doing, as a style.</param>
/// <param name="From">In milliseconds since the update began.</param>
/// <param name="To">In milliseconds since the update began.</param>
internal sealed record LanePiece(string Name, string Kind, double From, double To)
{
    public string Title => $"{Name}: {HistoryPage.Milliseconds(From)} to {HistoryPage.Milliseconds(To)} ({HistoryPage.Milliseconds(To - From)})";
}

/// <summary>What supervisor, old and new QEMU did when, derived from a report's phases and outcome.</summary>
internal sealed record UpdateLanes(ImmutableArray<(string Name, ImmutableArray<LanePiece> Pieces)> All, double End, (double From, double To)? Paused)
{
    public static UpdateLanes Of(UpdateReport update)
    {
        var end = Math.Max(update.TotalMs, update.Phases.Max(p => p.StartMs + p.DurationMs));
        var pause = Find(update, UpdatePhase.Pause);
        var rollback = Find(update, UpdatePhase.Rollback);
        var prepare = Find(update, UpdatePhase.Prepare);

        // The guest is paused from the phase of that name to the commit's end, or until it was given back.
        var resumed = update.Outcome == UpdateOutcome.Updated ? EndOf(Find(update, UpdatePhase.Commit)) : EndOf(rollback);
        (double From, double To)? paused = pause is null ? null : (pause.StartMs, Math.Max(resumed ?? end, pause.StartMs));
        ImmutableArray<LanePiece> phases = [.. update.Phases.Select(p => new LanePiece(HistoryPage.Name(p.Name), Kind(p, paused), p.StartMs, p.StartMs + p.DurationMs))];
        return new UpdateLanes([("supervisor", phases), ("old QEMU", Old(update, paused, end)), ("new QEMU", New(update, paused, prepare, rollback, end))], end, paused);
    }

    private static ImmutableArray<LanePiece> Old(UpdateReport update, (double From, double To)? paused, double end)
    {
        if (paused is not var (from, to))
            return [Runs(0, end)];
        var before = ImmutableArray.Create(Runs(0, from), new LanePiece("paused", "stopped", from, to));
        return update.Outcome switch
        {
            UpdateOutcome.RolledBack or UpdateOutcome.Failed => before.Add(Runs(to, end)),
            _ => before, // it has given the guest away, and is ended when the new one runs it
        };

        static LanePiece Runs(double from, double to) => new("runs the guest", "old", from, to);
    }

    private static ImmutableArray<LanePiece> New(UpdateReport update, (double From, double To)? paused, PhaseTiming? prepare, PhaseTiming? rollback, double end)
    {
        if (prepare is null)
            return [];
        if (update.Outcome == UpdateOutcome.Updated && paused is var (_, resumed))
            return [new("starts, waits, loads", "load", prepare.StartMs, resumed), new("runs the guest", "new", resumed, end)];
        return [new("starts and waits", "load", prepare.StartMs, rollback?.StartMs ?? (update.Outcome == UpdateOutcome.Updated ? end : EndOf(prepare)!.Value))];
    }

    private static string Kind(PhaseTiming phase, (double From, double To)? paused) =>
        paused is var (from, to) && phase.StartMs >= from && phase.StartMs < to ? "pause"
        : phase.Name is UpdatePhase.Prepare ? "prep" : "work";

    private static PhaseTiming? Find(UpdateReport update, UpdatePhase name) => update.Phases.FirstOrDefault(p => p.Name == name);

    private static double? EndOf(PhaseTiming? phase) => phase is null ? null : phase.StartMs + phase.DurationMs;
}
