using System.Text.Json;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What both VMMs report while the guest moves, as tasks that complete the moment the event is read.</summary>
/// <remarks>Subscribes at once, so that nothing that is asked for afterwards can be missed.</remarks>
internal sealed class SwitchoverWatch : IAsyncDisposable
{
    private readonly List<(QmpEventSubscription Subscription, Task Pump)> _pumps = [];
    private readonly TaskCompletionSource<long> _oldStopped = new();
    private readonly TaskCompletionSource _oldWaits = new();
    private readonly TaskCompletionSource<string> _oldFinished = new();
    private readonly TaskCompletionSource _oldFailedLate = new();
    private readonly TaskCompletionSource<string> _newFinished = new();
    private readonly TaskCompletionSource<long> _newResumed = new();
    private readonly SteadyClock _clock = new();
    private long _oldResumed;
    private Task _newPump = Task.CompletedTask;

    /// <summary>STOP of the old VMM: its timestamp in microseconds.</summary>
    public Task<long> OldStopped => _oldStopped.Task;

    /// <summary>The old VMM has stopped the guest and waits for <c>migrate-continue</c> (<c>pause-before-switchover</c>).</summary>
    public Task OldWaits => _oldWaits.Task;

    /// <summary>The old VMM's migration has ended: <c>completed</c>, <c>failed</c> or <c>cancelled</c>.</summary>
    public Task<string> OldFinished => _oldFinished.Task;

    /// <summary>The old VMM had reported completion, and then that it failed: it could not execute the new program.</summary>
    public Task OldFailedLate => _oldFailedLate.Task;

    /// <summary>The new VMM's migration has ended: <c>completed</c> or <c>failed</c>.</summary>
    public Task<string> NewFinished => _newFinished.Task;

    /// <summary>RESUME of the new VMM: its timestamp in microseconds.</summary>
    public Task<long> NewResumed => _newResumed.Task;

    private long OldResumed => Interlocked.Read(ref _oldResumed);

    /// <summary>STOP of the old to RESUME of the new VMM, in milliseconds; null while one of them is missing.</summary>
    public double? PauseMs => _oldStopped.Task.IsCompletedSuccessfully && _newResumed.Task.IsCompletedSuccessfully
        ? Milliseconds(_oldStopped.Task.Result, _newResumed.Task.Result)
        : null;

    /// <summary>STOP to RESUME of the old VMM, in milliseconds; null if it was not stopped.</summary>
    public double? ReturnMs => _oldStopped.Task.IsCompletedSuccessfully ? Milliseconds(_oldStopped.Task.Result, OldResumed) : null;

    public void WatchOld(Vmm old) => _ = Pump(old, e =>
    {
        switch (e.Name)
        {
            case "STOP":
                _oldStopped.TrySetResult(_clock.Steady(e.TimestampMicroseconds));
                break;
            case "RESUME":
                Interlocked.Exchange(ref _oldResumed, _clock.Steady(e.TimestampMicroseconds));
                break;
            case "MIGRATION" when Status(e) == "pre-switchover":
                _oldWaits.TrySetResult();
                break;
            case "MIGRATION" when Ended(e) is { } status:
                if (!_oldFinished.TrySetResult(status) && status == "failed")
                    _oldFailedLate.TrySetResult();
                break;
        }
    });

    public void WatchNew(Vmm fresh) => _newPump = Pump(fresh, e =>
    {
        switch (e.Name)
        {
            case "RESUME":
                _newResumed.TrySetResult(_clock.Steady(e.TimestampMicroseconds));
                break;
            case "MIGRATION" when Ended(e) is { } status:
                _newFinished.TrySetResult(status);
                break;
        }
    });

    /// <summary>Waits until every event that the new VMM had in its stream has been seen; for when its connection ends or has ended.</summary>
    public Task DrainNewAsync() => _newPump;

    public async ValueTask DisposeAsync()
    {
        foreach (var (subscription, _) in _pumps)
            subscription.Dispose();
        await Task.WhenAll(_pumps.Select(p => p.Pump));
    }

    private Task Pump(Vmm vmm, Action<QmpEvent> seen)
    {
        var subscription = vmm.Qmp.Subscribe("STOP", "RESUME", "MIGRATION");
        var pump = Read();
        _pumps.Add((subscription, pump));
        return pump;

        async Task Read()
        {
            try
            {
                await foreach (var e in subscription)
                    seen(e);
            }
            catch (Exception e) when (e is QmpConnectionException or ObjectDisposedException or OperationCanceledException)
            {
                // The end of the connection is seen, with its cause, by whoever executes a command or waits for the process.
            }
        }
    }

    private static double Milliseconds(long stopped, long resumed) => Math.Round((resumed - stopped) / 1000.0, 3);

    private static string? Ended(QmpEvent e) => Status(e) is ("completed" or "failed" or "cancelled") and var status ? status : null;

    private static string? Status(QmpEvent e) =>
        e.Data.ValueKind == JsonValueKind.Object && e.Data.TryGetProperty("status", out var status) ? status.GetString() : null;
}
