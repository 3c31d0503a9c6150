using CprSharp.Qmp;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>The phases from Prepare on where the guest goes to another process, and back when anything fails.</summary>
/// <remarks>
/// Invariant: the new VMM runs the guest only after <see cref="CommitAsync"/> sent <c>cont</c>, which it does only after the old VMM
/// reported <c>completed</c> and so can no longer resume by itself. The old VMM is given the guest back only after the new one is dead
/// and its event stream, read to the end, held no RESUME.
/// <para>
/// Where the old VMM can be continued after its completion, <c>cont</c> does not wait until the new one has loaded: it takes effect when the
/// load has succeeded, and never after one that failed (<c>qmp_cont</c> sets <c>autostart</c> while the run state is <c>inmigrate</c>). That
/// saves a round trip in the pause. Where <see cref="Switchover.AwaitsLoad"/>, the new VMM is seen to be whole first.
/// </para>
/// </remarks>
internal sealed partial class SwitchoverUpdate : IAsyncDisposable
{
    /// <summary>How long the old VMM may look for the shortest pause while the guest runs.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    private readonly ILogger _logger;
    private readonly UpdateRun _run;
    private readonly IUpdateEngine _engine;
    private readonly SwitchoverWatch _watch = new();
    private readonly Switchover _switchover;
    private readonly SwitchoverPreparation _preparation;
    private bool _continued;

    public SwitchoverUpdate(UpdateRun run, IUpdateEngine engine, VmInspection inspection, QemuBinary target)
    {
        var old = run.Host.Current;
        _logger = run.Logger;
        _run = run;
        _engine = engine;
        _switchover = new Switchover(run.Host.Directory, old, old.Generation + 1, inspection, target)
        {
            AwaitsLoad = !inspection.IsRunning || run.Host.HasTaps || engine.CompletionIsFinal(inspection),
            NoteTakenOut = bars => _preparation!.NoteTakenOut(bars),
        };
        _preparation = new SwitchoverPreparation(run, engine, _switchover, _watch);
        _watch.WatchOld(old);
    }

    /// <summary>Never throws for a failing update: the report says what happened.</summary>
    public async Task<UpdateReport> RunAsync(UpdateReport report, CancellationToken cancellationToken)
    {
        try
        {
            _run.Clock.Enter(UpdatePhase.Prepare);
            using var deadline = _run.PreparationDeadline(cancellationToken);
            await _preparation.RunAsync(deadline.Token);
            report = report with { To = report.To with { Pid = _switchover.New.Pid } };
        }
        catch (Exception e)
        {
            var refused = e is UpdateException { IsRefusal: true };
            if (e is UpdateException { IsRefusal: true } refusal && !_run.Findings.Exists(f => f.Id == refusal.Code))
                _run.Findings.Add(Finding.Fail(refusal.Code, _switchover.NewFacts.Path, refusal.Message, refusal.Fix));
            var error = _run.Describe(e, "the guest was not paused", cancellationToken);
            return await GoBackAsync(report with { Error = error }, pastReturn: false, refused ? UpdateOutcome.Refused : UpdateOutcome.Failed);
        }

        // From here on the operator's Ctrl-C no longer cancels: what was begun is finished, one way or the other.
        _run.Host.HoldClients();
        using var pause = new CancellationTokenSource(_run.Options.PauseDeadlineMs);
        PauseBoost? boost = null;
        try
        {
            _run.Clock.Enter(UpdatePhase.Pause);
            await _run.Faults.HitAsync(FaultPoint.PauseBegin, pause.Token);
            _run.Host.Mark(SwitchStep.Pausing);

            // Not yet in real time: the guest's processors still run, and would have whole slices of it.
            await _run.Host.DivertNetworkAsync(_switchover.Old);
            boost = _run.Options.PauseBoost ? PauseBoost.TryBegin([_switchover.Old.Pid, _switchover.New.Pid, Environment.ProcessId], _preparation.KvmThreads, _run.Host.RealTime) : null;
            await _engine.BeginAsync(_switchover, pause.Token);
            await _run.Faults.HitAsync(FaultPoint.TransferBegin, pause.Token);
            if (_switchover.WasRunning)
                await StoppedAsync(pause.Token);

            _run.Clock.Enter(UpdatePhase.Transfer);
            await TransferAsync(pause.Token);

            _run.Clock.Enter(UpdatePhase.Verify);
            await _preparation.Drain!.WaitAsync(pause.Token);
            await _run.Faults.HitAsync(FaultPoint.TransferEnd, pause.Token);

            _run.Clock.Enter(UpdatePhase.Commit);
            await _run.Faults.HitAsync(FaultPoint.CommitBegin, pause.Token);
            await CommitAsync(pause.Token);
        }
        catch (Exception e)
        {
            boost?.Dispose();
            var error = _run.Describe(e, "the pause had begun", CancellationToken.None);
            var pastReturn = _engine.CompletionIsFinal(_switchover.Vm) && await HasSentAwayAsync();
            if (!await TryGoForwardAsync(pastReturn, error))
                return await GoBackAsync(report with { Error = error }, pastReturn, UpdateOutcome.Failed);
        }

        boost?.Dispose();
        _run.Host.Switch(_switchover.New);
        _run.Host.ReleaseClients();
        report = report with { Outcome = UpdateOutcome.Updated, PauseMs = _watch.PauseMs };
        await new Retirement(_run).RunAsync(
            _switchover.New,
            _engine,
            async token => _run.Findings.AddRange(await _engine.SettleAsync(_switchover.New, token)),
            async () =>
            {
                await _switchover.Old.KillAsync();
                await _switchover.Old.DisposeAsync();
                _run.Host.Directory.RemoveSockets(_switchover.Old.Generation);
                _run.Host.Directory.RemoveTransferSockets(_switchover.New.Generation);
            });
        return report;
    }

    public ValueTask DisposeAsync() => _watch.DisposeAsync();

    private async Task StoppedAsync(CancellationToken cancellationToken)
    {
        var stopped = FirstOfAsync(_watch.OldStopped, _watch.OldFinished, cancellationToken);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (await Task.WhenAny(stopped, Task.Delay(Patience, patience.Token)) != stopped)
            await _engine.HurryAsync(_switchover, cancellationToken);
        await patience.CancelAsync();
        await stopped;
    }

    private async Task TransferAsync(CancellationToken cancellationToken)
    {
        await FirstOfAsync(_watch.OldFinished, _watch.NewFinished, cancellationToken);
        if (!_watch.OldFinished.IsCompleted || (_switchover.AwaitsLoad && await _watch.OldFinished == "completed"))
            await LoadedAsync(cancellationToken);
        await FirstOfAsync(_watch.OldFinished, null, cancellationToken);
        if (await _watch.OldFinished is var sent && sent != "completed")
            throw new UpdateException("transfer-failed", $"the old VMM reported the transfer as {sent}: {await MigrationQuery.ErrorAsync(_switchover.Old)}", "see the VMM's log");
    }

    private async Task LoadedAsync(CancellationToken cancellationToken)
    {
        await FirstOfAsync(_watch.NewFinished, null, cancellationToken);
        if (await _watch.NewFinished is var loaded && loaded != "completed")
            throw new UpdateException("load-failed", $"the new VMM could not load the state ({loaded}): {_switchover.New.LogTail()}", "see the VMM's log");
    }

    private async Task CommitAsync(CancellationToken cancellationToken)
    {
        await _run.Host.ConnectNetworkAsync(_switchover.New);
        if (!_switchover.WasRunning)
        {
            if (await _switchover.New.QueryRunStateAsync(cancellationToken) is var state && state != "paused")
                throw new UpdateException("verify", $"the new VMM is '{state}' where 'paused' was expected", "see the VMM's log");
            return;
        }

        _run.Host.Mark(SwitchStep.Committing);
        _continued = true;
        var told = _switchover.New.ExecuteAsync("cont", cancellationToken);
        try
        {
            await _run.Faults.HitAsync(FaultPoint.CommitContinued, cancellationToken);
            await told;
        }
        catch (QmpConnectionException)
        {
            if (await SwitchoverPreparation.EndOfAsync(_switchover.New) is { } ended)
                throw ended;
            throw;
        }
        finally
        {
            await ((Task)told).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        await LoadedAsync(cancellationToken);
        await FirstOfAsync(_watch.NewResumed, null, cancellationToken);
    }

    /// <summary>
    /// Whether the old VMM has sent the guest away, and with its devices can no longer run it. While its migration is under way, QEMU itself
    /// decides between completion and our cancellation: nobody may end the new VMM before that.
    /// </summary>
    private async Task<bool> HasSentAwayAsync()
    {
        using var deadline = _run.ReturnDeadline();
        try
        {
            return await OldVmmRecovery.EndMigrationAsync(_switchover.Old, deadline.Token) == OldVmmRecovery.SentAway;
        }
        catch (Exception e) when (e is QmpException or IOException or OperationCanceledException or TimeoutException)
        {
            LogRollback($"the old VMM does not say how its migration ended: {e.Message}");
            return false;
        }
    }

    /// <summary>
    /// There is no way back to an old VMM that has died or given up, but there may be one forward: the new VMM may have the whole guest already.
    /// And none from a new VMM that has begun to run it.
    /// </summary>
    private async Task<bool> TryGoForwardAsync(bool pastReturn, ReportError cause)
    {
        if (_switchover.New.Exited.IsCompleted)
            return false;

        using var deadline = _run.ReturnDeadline();
        try
        {
            if (!pastReturn && !_switchover.Old.Exited.IsCompleted)
                return _continued && await HasBegunAsync(cause, deadline.Token);

            // What was not loaded whole is still 'inmigrate', and goes on by itself only if it was told to.
            var state = await _switchover.New.QueryRunStateAsync(deadline.Token);
            if (state == "paused" || (state == "inmigrate" && _continued))
                await CommitAsync(deadline.Token);
            else if (state != "running")
                return false;
            _run.Findings.Add(pastReturn
                ? Finding.Warn(
                    "point-of-no-return", _switchover.Old.Binary,
                    $"{cause.Message}; the old VMM (pid {_switchover.Old.Pid}) had let go of KVM and could not resume, so the new one, which had the whole guest, goes on with it", "")
                : Finding.Warn(
                    "old-vmm-ended", _switchover.Old.Binary,
                    $"the old VMM (pid {_switchover.Old.Pid}) ended in the pause: {await _switchover.Old.Exited}; the new one had the whole guest and goes on with it ({cause.Message})", "see the VMM's log"));
            return true;
        }
        catch (Exception e) when (e is QmpException or IOException or OperationCanceledException or TimeoutException or UpdateException or VmmExitedException)
        {
            LogRollback($"not forward either: {e.Message}");
            return false;
        }
    }

    /// <summary>Whether a new VMM that was told to go on has done so, seen while it stands still; then it goes on, or else it stays frozen.</summary>
    private async Task<bool> HasBegunAsync(ReportError cause, CancellationToken cancellationToken)
    {
        await _switchover.New.FreezeAsync().WaitAsync(cancellationToken);
        await _watch.DrainNewAsync().WaitAsync(cancellationToken);
        if (!_watch.NewResumed.IsCompletedSuccessfully)
            return false;

        await _switchover.New.ThawAsync(cancellationToken);
        _run.Findings.Add(Finding.Warn(
            "late-resume", _switchover.New.Binary, $"{cause.Message}; by then the new VMM (pid {_switchover.New.Pid}) ran the guest, and goes on with it", "raise Update:PauseDeadlineMs if the host is only slow"));
        return true;
    }

    /// <summary>Waits for one event, unless the other comes first, the new VMM ends, or time is up.</summary>
    /// <remarks>Without a result: what .NET needs to wait for a task that has a result of a reference type is compiled at its first use, here in the first pause.</remarks>
    private async Task FirstOfAsync(Task wanted, Task? ending, CancellationToken cancellationToken)
    {
        var exited = _switchover.New.Exited;
        var first = await Task.WhenAny([wanted, exited, .. ending is null ? Array.Empty<Task>() : [ending]]).WaitAsync(cancellationToken);
        if (first == exited && !wanted.IsCompleted)
            throw new VmmExitedException(_switchover.New, await exited, _switchover.New.LogTail());
    }

    private Task<UpdateReport> GoBackAsync(UpdateReport report, bool pastReturn, UpdateOutcome unpaused)
    {
        LogRollback(report.Error?.Message ?? "");
        return new SwitchoverReturn(_run, _engine, _switchover, _watch).RunAsync(report, pastReturn, unpaused);
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "update given up, going back to the old VMM: {Reason}")]
    private partial void LogRollback(string reason);
}
