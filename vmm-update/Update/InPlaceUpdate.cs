using System.Net.Sockets;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>The phases from Prepare on where the VMM's program is replaced in its process.</summary>
/// <remarks>
/// Invariant: the old program is never continued once it has reported completion, for then it is about to exec; and the old binary is started
/// anew, on the same memory, only after the process is dead and if its next program was not yet told to run the guest.
/// </remarks>
internal sealed partial class InPlaceUpdate(UpdateRun run, IInPlaceEngine engine) : IAsyncDisposable
{
    private readonly ILogger _logger = run.Logger;
    private readonly Vmm _old = run.Host.Current;
    private readonly SwitchoverWatch _watch = new();
    private ProgramSpares? _spares;
    private Socket? _next;
    private QmpClient? _nextQmp;
    private Task? _connecting;
    private Vmm? _fresh;
    private bool _wasRunning;
    private bool _continued;

    private int Generation => _old.Generation + 1;

    private string StateFile => run.Host.Directory.StateFile(Generation);

    /// <summary>Never throws for a failing update: the report says what happened.</summary>
    public async Task<UpdateReport> RunAsync(UpdateReport report, VmInspection inspection, QemuBinary target, CancellationToken cancellationToken)
    {
        _wasRunning = inspection.IsRunning;
        try
        {
            run.Clock.Enter(UpdatePhase.Prepare);
            using var deadline = run.PreparationDeadline(cancellationToken);
            await PrepareAsync(report, inspection, target, deadline.Token);
        }
        catch (Exception e)
        {
            var refused = e is UpdateException { IsRefusal: true };
            return await ReturnAsync(report with { Outcome = refused ? UpdateOutcome.Refused : UpdateOutcome.Failed, Error = run.Describe(e, "the guest was not paused", cancellationToken) });
        }

        report = report with { To = report.To with { Pid = _old.Pid } };

        // From here on the operator's Ctrl-C no longer cancels: what was begun is finished, one way or the other.
        run.Host.HoldClients();
        using var pause = new CancellationTokenSource(run.Options.PauseDeadlineMs);
        try
        {
            await ReplaceAsync(target, pause.Token);
            await CommitAsync(_fresh!, pause.Token);
        }
        catch (Exception e)
        {
            report = report with { Error = run.Describe(e, "the pause had begun", CancellationToken.None) };
            LogTrouble(report.Error.Message);
            if (!await TryGoForwardAsync(target, report.Error))
                return await ReturnAsync(report);
        }

        run.Host.Switch(_fresh!);
        run.Host.ReleaseClients();
        report = report with { Outcome = UpdateOutcome.Updated, Error = null, PauseMs = _watch.PauseMs };
        await new Retirement(run).RunAsync(
            _fresh!,
            engine,
            async token =>
            {
                run.Findings.AddRange(await engine.SettleAsync(_fresh!, token));
                run.Findings.AddRange(await run.Host.RepeatSettingsAsync(_fresh!, token));
            },
            async () =>
            {
                await _old.DisposeAsync();
                run.Host.Directory.PassOn(_old.Generation, Generation);
            });
        return report;
    }

    public async ValueTask DisposeAsync()
    {
        await _watch.DisposeAsync();
        _spares?.Dispose();
        _next?.Dispose();
        if (_nextQmp is not null && _fresh is null)
            await _nextQmp.DisposeAsync();
    }

    private async Task PrepareAsync(UpdateReport report, VmInspection inspection, QemuBinary target, CancellationToken cancellationToken)
    {
        await run.Faults.HitAsync(FaultPoint.PrepareSpawn, cancellationToken);

        // What the other engines see of the new VMM while the guest runs, this one sees of a rehearsal; but devices that are in use open once only.
        if (inspection.PassedThrough.IsEmpty)
            run.Findings.AddRange(await Rehearsal.RunAsync(run.Host, inspection, target, cancellationToken));
        else
            run.Findings.Add(Finding.Warn("rehearsal", target.Path, "not rehearsed, because the passed-through devices are in use: whether it builds the same machine shows in the pause only", "engine transfer compares the machines before the pause"));
        run.RequireNoBlocker();
        var journal = new UpdateJournal(
            UpdateJournal.CurrentSchema, engine.Name, _old.Generation, Generation, _old.Pid, ProcFs.StartTimeTicks(_old.Pid), target.Path, _wasRunning,
            target.Version.ToString(), report.Started)
        {
            Began = run.Clock.Began,
        };
        run.Host.SaveJournal(journal);
        await run.Faults.HitAsync(FaultPoint.PrepareSpawned, cancellationToken);
        _watch.WatchOld(_old);
        await engine.PrepareAsync(_old, inspection, run.Host.InPlaceCommand(target), bars => run.Host.SaveJournal(journal with { TakenOut = bars }), cancellationToken);
        await run.Faults.HitAsync(FaultPoint.PrepareReady, cancellationToken);
        await run.Host.HoldListenersAsync(_old, cancellationToken);
        _spares = ProgramSpares.Take(_old.PidFd, [.. run.Host.HeldDescriptors.Select(d => d.Number)]);

        // Waits in the backlog of a socket that stays; the next program takes it from there as soon as it can.
        ListeningSockets.ClearBacklog(_old);
        _next = UnixSocket.Connect(_old.QmpPath);
        await run.Faults.HitAsync(FaultPoint.PrepareVerified, cancellationToken);
    }

    private async Task ReplaceAsync(QemuBinary target, CancellationToken cancellationToken)
    {
        run.Clock.Enter(UpdatePhase.Pause);
        var cpus = await ThreadAttributes.OfVcpusAsync(_old, cancellationToken);
        await run.Faults.HitAsync(FaultPoint.PauseBegin, cancellationToken);
        run.Host.Mark(SwitchStep.Pausing);
        await engine.BeginAsync(_old, StateFile, cancellationToken);
        if (await Task.WhenAny(_watch.OldWaits, _watch.OldFinished, _old.Exited).WaitAsync(cancellationToken) == _watch.OldWaits)
        {
            _spares!.TakeState();
            await engine.ContinueAsync(_old, cancellationToken);
        }

        await run.Faults.HitAsync(FaultPoint.TransferBegin, cancellationToken);

        run.Clock.Enter(UpdatePhase.Transfer);
        if (await _watch.OldFinished.WaitAsync(cancellationToken) is var saved && saved != "completed")
            throw new UpdateException("transfer-failed", $"the state could not be saved ({saved}): {_old.LogTail()}", "see the VMM's log");
        await ConnectAsync(target, cancellationToken);
        await ThreadAttributes.ApplyAsync(cpus, _fresh!, run.Findings, cancellationToken);
        await run.Host.PrepareConsolesAsync(_fresh!, cancellationToken);
        await LoadAsync(_fresh!, cancellationToken);

        run.Clock.Enter(UpdatePhase.Verify);
        await run.Faults.HitAsync(FaultPoint.TransferEnd, cancellationToken);
        run.Clock.Enter(UpdatePhase.Commit);
        await run.Faults.HitAsync(FaultPoint.CommitBegin, cancellationToken);
    }

    /// <summary>Waits for the next program to answer; or for the old one to say that there is none.</summary>
    private async Task ConnectAsync(QemuBinary target, CancellationToken cancellationToken)
    {
        if (_fresh is not null)
            return;
        if (_nextQmp is null)
        {
            _nextQmp = new QmpClient();
            _connecting = _nextQmp.ConnectAsync(_next!, CancellationToken.None);
            _next = null; // the client's
        }

        var first = await Task.WhenAny(_connecting!, _old.Exited, _watch.OldFailedLate).WaitAsync(cancellationToken);
        if (first == _old.Exited)
            throw new VmmExitedException(_old, await _old.Exited, _old.LogTail());
        if (first == _watch.OldFailedLate)
            throw new UpdateException("exec-failed", $"the new program could not be executed: {await MigrationQuery.ErrorAsync(_old)}", "see the VMM's log");
        try
        {
            await _connecting!;
        }
        catch (QmpConnectionException e)
        {
            // A monitor that goes away before its greeting is a process that is about to be reaped.
            await ((Task)_old.Exited.WaitAsync(TimeSpan.FromSeconds(2), cancellationToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw _old.Exited.IsCompleted ? new VmmExitedException(_old, await _old.Exited, _old.LogTail()) : e;
        }

        _fresh = _old.ReplacedBy(Generation, target.Path, run.Host.Directory, _nextQmp);
        _watch.WatchNew(_fresh);
    }

    private async Task LoadAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var loading = engine.LoadAsync(vmm, StateFile, cancellationToken);
        if (await Task.WhenAny(loading, vmm.Exited) == vmm.Exited || loading.Exception?.InnerException is QmpConnectionException)
        {
            await ((Task)vmm.Exited.WaitAsync(TimeSpan.FromSeconds(2), cancellationToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await ((Task)loading).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (vmm.Exited.IsCompleted)
                throw new VmmExitedException(vmm, await vmm.Exited, vmm.LogTail());
        }

        await loading;
    }

    private async Task CommitAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        if (!_wasRunning)
        {
            if (await vmm.QueryRunStateAsync(cancellationToken) is var state && state != "paused")
                throw new UpdateException("verify", $"the new program is '{state}' where 'paused' was expected", "see the VMM's log");
            return;
        }

        run.Host.Mark(SwitchStep.Committing);
        _continued = true;
        await vmm.ExecuteAsync("cont", cancellationToken);
        await run.Faults.HitAsync(FaultPoint.CommitContinued, cancellationToken);
        await _watch.NewResumed.WaitAsync(cancellationToken);
    }

    /// <summary>Where the old program is gone already, and the next one lives, that one goes on.</summary>
    private async Task<bool> TryGoForwardAsync(QemuBinary target, ReportError cause)
    {
        using var deadline = run.ReturnDeadline();
        try
        {
            if (_fresh is null && (_old.Exited.IsCompleted || await InPlaceReturn.CallOffAsync(_old, _wasRunning, deadline.Token)))
                return false;
            await ConnectAsync(target, deadline.Token);
            if (_fresh!.Exited.IsCompleted)
                return false;
            var state = await _fresh.QueryRunStateAsync(deadline.Token);
            if (state == "inmigrate")
            {
                await run.Host.PrepareConsolesAsync(_fresh, deadline.Token);
                await LoadAsync(_fresh, deadline.Token);
                state = "paused";
            }

            if (state == "paused")
                await CommitAsync(_fresh, deadline.Token);
            else if (state != "running")
                return false;
            run.Findings.Add(Finding.Warn(
                "point-of-no-return", _old.Binary, $"{cause.Message}; the old program was gone already (pid {_old.Pid} had executed the new one), so the new one, which had the whole guest, goes on with it", ""));
            return true;
        }
        catch (Exception e) when (e is QmpException or IOException or OperationCanceledException or TimeoutException or UpdateException or VmmExitedException)
        {
            LogTrouble($"not forward either: {e.Message}");
            return false;
        }
    }

    /// <summary>Back to the old program, where it still is; or else to the old binary, started anew.</summary>
    private async Task<UpdateReport> ReturnAsync(UpdateReport report)
    {
        run.Clock.Enter(UpdatePhase.Rollback);
        using var deadline = run.ReturnDeadline();
        try
        {
            await run.Faults.NoteAsync(FaultPoint.RollbackBegin, run.Findings, run.Host.Directory.Name);
            var isBack = _fresh is null && !_old.Exited.IsCompleted && await InPlaceReturn.CallOffAsync(_old, _wasRunning, deadline.Token);
            if (isBack)
            {
                if (run.Clock.Phases.Any(p => p.Name == UpdatePhase.Pause))
                    run.Host.Mark(SwitchStep.None);
                await Settling.BackAsync(engine, _old, run.Findings, deadline.Token);
                await engine.RestoreAsync(_old, deadline.Token);
                ListeningSockets.ClearBacklog(_old);
                File.Delete(StateFile);
            }
            else if (_old.Exited.IsCompleted && !_watch.OldStopped.IsCompleted && _fresh is null)
            {
                run.Host.SaveJournal(null);
                return report with { Outcome = UpdateOutcome.Failed, Error = new ReportError("guest-ended", $"the guest ended on the old VMM during the update: {await _old.Exited}", "start the VM again") };
            }
            else
            {
                report = await ReviveAsync(report, deadline.Token);
            }

            await run.Faults.NoteAsync(FaultPoint.RollbackEnd, run.Findings, run.Host.Directory.Name);
            run.Host.SaveRecord();
            run.Host.SaveJournal(null);
            return _watch.OldStopped.IsCompletedSuccessfully
                ? report with { Outcome = UpdateOutcome.RolledBack, PauseMs = isBack ? _watch.ReturnMs : _watch.PauseMs }
                : report;
        }
        catch (Exception e)
        {
            LogUnknown(e);
            return report with
            {
                Outcome = UpdateOutcome.Unknown,
                Error = new ReportError(
                    _old.Exited.IsCompleted ? "guest-lost" : "guest-state-unknown",
                    $"{report.Error?.Message}; and the way back failed: {e.Message}",
                    _old.Exited.IsCompleted ? "start the VM again" : $"look at the VMM with `cprsharp status {run.Host.Directory.Name}`; it is pid {_old.Pid}"),
            };
        }
        finally
        {
            run.Host.ReleaseClients();
        }
    }

    /// <summary>The state file, and duplicates of all memory, are still there: the old binary takes them, as another process.</summary>
    private async Task<UpdateReport> ReviveAsync(UpdateReport report, CancellationToken cancellationToken)
    {
        if (_continued)
            throw new UpdateException("new-vmm-died", "the new program had been told to run the guest; the guest ended with it", "start the VM again");
        if (_spares is not { AreComplete: true } spares)
            throw new UpdateException("no-spares", "there is no duplicate of the old program's cpr state", "start the VM again");

        var dead = _fresh ?? _old;
        await dead.KillAsync();
        var binary = await run.Host.FactsAsync(_old.Binary, cancellationToken);
        var revived = run.Host.StartVmm(Generation, binary, new EngineStart(["-incoming", "defer"], spares.Descriptors) { Environment = spares.Environment });
        try
        {
            run.Host.SaveJournal(new UpdateJournal(
                UpdateJournal.CurrentSchema, engine.Name, _old.Generation, Generation, revived.Pid, ProcFs.StartTimeTicks(revived.Pid), binary.Path, _wasRunning,
                binary.Version.ToString(), report.Started)
            {
                Began = run.Clock.Began,
            });
            await revived.ConnectAsync(cancellationToken);
            _watch.WatchNew(revived);
            await run.Host.PrepareConsolesAsync(revived, cancellationToken);
            await LoadAsync(revived, cancellationToken);
            await CommitAsync(revived, cancellationToken);
        }
        catch
        {
            await revived.KillAsync();
            await revived.DisposeAsync();
            throw;
        }

        run.Host.Switch(revived, isReturn: true);
        run.Findings.Add(Finding.Warn(
            "pid-changed", _old.Binary, $"the old program was gone already, so its binary was started anew on the guest's memory and saved state: pid {_old.Pid} became {revived.Pid}", "tell whoever watches the PID"));
        run.Host.Directory.RemoveSockets(_old.Generation);
        File.Delete(StateFile);
        await dead.DisposeAsync();
        await Settling.BackAsync(engine, revived, run.Findings, cancellationToken);
        await engine.RestoreAsync(revived, cancellationToken);
        run.Findings.AddRange(await run.Host.RepeatSettingsAsync(revived, cancellationToken));
        run.Findings.AddRange(await run.Host.AfterCommitAsync(revived, cancellationToken));
        return report with { Outcome = UpdateOutcome.RolledBack, From = report.From with { Pid = revived.Pid } };
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "update in place: {Trouble}")]
    private partial void LogTrouble(string trouble);

    [LoggerMessage(Level = LogLevel.Critical, Message = "the guest's state is unknown")]
    private partial void LogUnknown(Exception exception);
}
