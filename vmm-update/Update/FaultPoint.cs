using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What an armed fault point does.</summary>
public enum FaultAction
{
    /// <summary>The supervisor ends itself with SIGKILL.</summary>
    Kill,

    /// <summary>The point throws.</summary>
    Error,

    /// <summary>The point never returns; only a deadline or a cancellation ends it.</summary>
    Hang,
}

/// <summary>The named places where an update can be made to fail, in the order in which they are passed.</summary>
public static class FaultPoint
{
    /// <summary>Before anything is read.</summary>
    public const string InspectBegin = "inspect.begin";

    /// <summary>The plan is made, nothing is started.</summary>
    public const string PlanMade = "plan.made";

    /// <summary>Before the new VMM's process is started.</summary>
    public const string PrepareSpawn = "prepare.spawn";

    /// <summary>The new VMM's process exists.</summary>
    public const string PrepareSpawned = "prepare.spawned";

    /// <summary>The new VMM answers on QMP.</summary>
    public const string PrepareReady = "prepare.ready";

    /// <summary>The new VMM was seen to be the same machine.</summary>
    public const string PrepareVerified = "prepare.verified";

    /// <summary>Before the switch-over is asked for; the guest still runs.</summary>
    public const string PauseBegin = "pause.begin";

    /// <summary>The switch-over was asked for.</summary>
    public const string TransferBegin = "transfer.begin";

    /// <summary>The old VMM has reported completion.</summary>
    public const string TransferEnd = "transfer.end";

    /// <summary>Before the new VMM is told to go on; the old one can still take the guest back.</summary>
    public const string CommitBegin = "commit.begin";

    /// <summary>The new VMM was told to go on; whether it has is not known yet.</summary>
    public const string CommitContinued = "commit.continued";

    /// <summary>The guest runs on the new VMM; the old one still exists.</summary>
    public const string CommitEnd = "commit.end";

    /// <summary>Before the old VMM is ended.</summary>
    public const string RetireBegin = "retire.begin";

    /// <summary>The old VMM is gone; the record is not yet written.</summary>
    public const string RetireEnd = "retire.end";

    /// <summary>Before the old VMM is given the guest back.</summary>
    public const string RollbackBegin = "rollback.begin";

    /// <summary>The guest is back on the old VMM.</summary>
    public const string RollbackEnd = "rollback.end";

    /// <summary>All points, in the order in which an update passes them.</summary>
    public static IReadOnlyList<string> All { get; } =
    [
        InspectBegin, PlanMade, PrepareSpawn, PrepareSpawned, PrepareReady, PrepareVerified, PauseBegin, TransferBegin,
        TransferEnd, CommitBegin, CommitContinued, CommitEnd, RetireBegin, RetireEnd, RollbackBegin, RollbackEnd,
    ];
}

/// <summary>The faults that are armed for one update.</summary>
/// <remarks>Several may be armed, separated by commas, so that a failing rollback can be rehearsed too.</remarks>
public sealed class FaultPlan
{
    private readonly Dictionary<string, FaultAction> _armed;

    private FaultPlan(Dictionary<string, FaultAction> armed) => _armed = armed;

    /// <summary>No fault is armed.</summary>
    public static FaultPlan None { get; } = new([]);

    /// <summary>What is armed, for the log.</summary>
    public IEnumerable<string> Armed => _armed.Select(f => $"{f.Key}:{f.Value.ToString().ToLowerInvariant()}");

    /// <summary>Parses <c>point[:kill|error|hang][,…]</c>, the form of <c>CPRSHARP_FAULT</c>. The action is <c>error</c> when none is given.</summary>
    /// <exception cref="FormatException">An unknown point or action.</exception>
    public static FaultPlan Parse(string? text)
    {
        if (string.IsNullOrWhiteSpace(text))
            return None;

        var armed = new Dictionary<string, FaultAction>(StringComparer.Ordinal);
        foreach (var item in text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            var colon = item.IndexOf(':', StringComparison.Ordinal);
            var point = colon < 0 ? item : item[..colon];
            var action = colon < 0 ? "error" : item[(colon + 1)..];
            if (!FaultPoint.All.Contains(point, StringComparer.Ordinal))
                throw new FormatException($"unknown fault point '{point}'; `cprsharp fault-points` lists them");
            armed[point] = action switch
            {
                "kill" => FaultAction.Kill,
                "error" => FaultAction.Error,
                "hang" => FaultAction.Hang,
                _ => throw new FormatException($"unknown fault action '{action}'; use kill, error or hang"),
            };
        }

        return new FaultPlan(armed);
    }

    /// <summary>Passes a point: returns at once unless a fault is armed there.</summary>
    /// <exception cref="FaultInjectedException">The point is armed with <see cref="FaultAction.Error"/>.</exception>
    public ValueTask HitAsync(string point, CancellationToken cancellationToken)
    {
        if (_armed.Count == 0 || !_armed.TryGetValue(point, out var action))
            return ValueTask.CompletedTask;

        switch (action)
        {
            case FaultAction.Kill:
                System.Diagnostics.Process.GetCurrentProcess().Kill();
                return new ValueTask(Task.Delay(Timeout.Infinite, cancellationToken));
            case FaultAction.Hang:
                return new ValueTask(Task.Delay(Timeout.Infinite, cancellationToken));
            default:
                throw new FaultInjectedException(point);
        }
    }
}

/// <summary>Fault points on a way back, which has nowhere to fall back to.</summary>
internal static class WayBackFaults
{
    private static readonly TimeSpan LongestHang = TimeSpan.FromSeconds(1);

    /// <summary>Passes a point; a fault there becomes a finding.</summary>
    public static async Task NoteAsync(this FaultPlan faults, string point, List<Finding> findings, string vm)
    {
        using var soon = new CancellationTokenSource(LongestHang);
        try
        {
            await faults.HitAsync(point, soon.Token);
        }
        catch (Exception e) when (e is FaultInjectedException or OperationCanceledException)
        {
            findings.Add(Finding.Warn("rollback", vm, e.Message, ""));
        }
    }
}

/// <summary>Thrown by a fault point that is armed with <see cref="FaultAction.Error"/>.</summary>
public sealed class FaultInjectedException(string point) : Exception($"fault injected at '{point}'")
{
    /// <summary>The point.</summary>
    public string Point { get; } = point;
}
