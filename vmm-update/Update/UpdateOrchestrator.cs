using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Planning;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Takes one VM through the phases of an update, and back when anything fails.</summary>
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
internal sealed partial class UpdateOrchestrator(IVmHost host, UpdateOptions options, ILogger logger, Action<UpdatePhase>? entered = null)
{
    /// <summary>How long the old VMM may look for the shortest pause while the guest runs.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    private readonly PhaseClock _clock = new(entered);
    private readonly DateTimeOffset _started = DateTimeOffset.UtcNow;
    private readonly List<Finding> _findings = [];
    private readonly HashSet<int> _kvmThreads = [];
    private FaultPlan _faults = FaultPlan.None;
    private UpdateJournal? _journal;
    private RingDrain? _drain;
    private bool _wasRunning;
    private bool _continued;

    /// <summary>Never throws for a failing update: the report says what happened.</summary>
    public async Task<UpdateReport> RunAsync(UpdateRequest request, CancellationToken cancellationToken)
    {
        _faults = request.Faults;
        var old = host.Current;
        var report = new UpdateReport
        {
            Vm = host.Directory.Name,
            Outcome = UpdateOutcome.Failed,
            Started = _started,
            From = new VmmEnd(old.Version.ToString(), old.Binary, old.Pid),
            To = new VmmEnd("", request.To, 0),
        };
        UpdatePlan? plan = null;
        VmInspection inspection;
        QemuBinary target;
        IDisposable hold;
        try
        {
            _clock.Enter(UpdatePhase.Inspect);
            using var deadline = Deadline(TimeSpan.FromSeconds(options.PrepareDeadlineSeconds), cancellationToken);
            await _faults.HitAsync(FaultPoint.InspectBegin, deadline.Token);
            hold = await host.HoldChangesAsync(deadline.Token);
            try
            {
                target = await host.FactsAsync(request.To, deadline.Token);
                report = report with { To = report.To with { Version = target.Version.ToString() } };
                inspection = await VmInspector.InspectAsync(old, await host.FactsAsync(old.Binary, deadline.Token), deadline.Token);
                var check = await new VmChecker(host).CheckAsync(inspection, target, rehearse: false, deadline.Token);
                _wasRunning = inspection.RunState == "running";

                _clock.Enter(UpdatePhase.Plan);
                _findings.AddRange(check.Findings);
                plan = UpdatePlanner.Plan(request, check);
                report = report with { Engine = plan.Engine?.Name, PointOfNoReturn = plan.Engine?.PointOfNoReturn(inspection) };
                await _faults.HitAsync(FaultPoint.PlanMade, deadline.Token);
            }
            catch
            {
                hold.Dispose();
                throw;
            }
        }
        catch (UpdateException e) when (e.Code.StartsWith("binary-", StringComparison.Ordinal))
        {
            _findings.Add(Finding.Fail(e.Code, request.To, e.Message, e.Fix));
            return Finish(report with { Outcome = UpdateOutcome.Refused, Error = new ReportError(e.Code, e.Message, e.Fix) });
        }
        catch (Exception e)
        {
            return Finish(report with { Error = Describe(e, "the guest was not touched", cancellationToken) });
        }

        using (hold)
        {
            if (plan.Engine is null)
                return Finish(report with { Outcome = UpdateOutcome.Refused, Error = plan.Refusal });
            if (request.DryRun)
                return Finish(report with { Outcome = UpdateOutcome.Planned });

            if (plan.Engine is IUpdateEngine moving)
                return await SwitchAsync(report, moving, old, inspection, target, cancellationToken);
            using var holdings = plan.Engine as IDisposable;
            await using var inPlace = new InPlaceUpdate(host, options, (IInPlaceEngine)plan.Engine, _clock, _findings, _faults, logger, Describe);
            return Finish(await inPlace.RunAsync(report, inspection, target, cancellationToken));
        }
    }

    private async Task<UpdateReport> SwitchAsync(
        UpdateReport report, IUpdateEngine engine, Vmm old, VmInspection inspection, QemuBinary target, CancellationToken cancellationToken)
    {
        var switchover = new Switchover(host.Directory, old, old.Generation + 1, inspection, target)
        {
            AwaitsLoad = !_wasRunning || host.HasTaps || engine.CompletionIsFinal(inspection),
            NoteTakenOut = bars => Journal(_journal! with { TakenOut = bars }),
        };
        using var holdings = engine as IDisposable;
        await using var watch = new SwitchoverWatch();
        watch.WatchOld(old);
        try
        {
            _clock.Enter(UpdatePhase.Prepare);
            using var deadline = Deadline(TimeSpan.FromSeconds(options.PrepareDeadlineSeconds), cancellationToken);
            await PrepareAsync(switchover, engine, inspection, watch, deadline.Token);
            report = report with { To = report.To with { Pid = switchover.New.Pid } };
        }
        catch (Exception e)
        {
            var refused = e is UpdateException { IsRefusal: true };
            if (e is UpdateException { IsRefusal: true } refusal && !_findings.Exists(f => f.Id == refusal.Code))
                _findings.Add(Finding.Fail(refusal.Code, switchover.NewFacts.Path, refusal.Message, refusal.Fix));
            var error = Describe(e, "the guest was not paused", cancellationToken);
            return await RollBackAsync(
                report with { Error = error }, switchover, engine, watch, pastReturn: false, refused ? UpdateOutcome.Refused : UpdateOutcome.Failed);
        }

        // From here on the operator's Ctrl-C no longer cancels: what was begun is finished, one way or the other.
        host.HoldClients();
        using var pause = new CancellationTokenSource(options.PauseDeadlineMs);
        PauseBoost? boost = null;
        try
        {
            _clock.Enter(UpdatePhase.Pause);
            await _faults.HitAsync(FaultPoint.PauseBegin, pause.Token);
            host.Mark(SwitchStep.Pausing);

            // Not yet in real time: the guest's processors still run, and would have whole slices of it.
            await host.DivertNetworkAsync(switchover.Old);
            boost = options.PauseBoost ? PauseBoost.TryBegin([switchover.Old.Pid, switchover.New.Pid, Environment.ProcessId], _kvmThreads, host.RealTime) : null;
            await engine.BeginAsync(switchover, pause.Token);
            await _faults.HitAsync(FaultPoint.TransferBegin, pause.Token);
            if (_wasRunning)
                await StoppedAsync(switchover, engine, watch, pause.Token);

            _clock.Enter(UpdatePhase.Transfer);
            await TransferAsync(switchover, watch, pause.Token);

            _clock.Enter(UpdatePhase.Verify);
            await _drain!.WaitAsync(pause.Token);
            await _faults.HitAsync(FaultPoint.TransferEnd, pause.Token);

            _clock.Enter(UpdatePhase.Commit);
            await _faults.HitAsync(FaultPoint.CommitBegin, pause.Token);
            await CommitAsync(switchover, watch, pause.Token);
        }
        catch (Exception e)
        {
            boost?.Dispose();
            var error = Describe(e, "the pause had begun", CancellationToken.None);
            var pastReturn = engine.CompletionIsFinal(inspection) && await HasSentAwayAsync(switchover);
            if (!await TryGoForwardAsync(switchover, watch, pastReturn, error))
                return await RollBackAsync(report with { Error = error }, switchover, engine, watch, pastReturn, UpdateOutcome.Failed);
        }

        boost?.Dispose();
        host.Switch(switchover.New);
        host.ReleaseClients();
        report = report with { Outcome = UpdateOutcome.Updated, PauseMs = watch.PauseMs };
        await new Retirement(host, options, _clock, _findings, _faults, logger).RunAsync(
            switchover.New,
            engine,
            token => engine.SettleAsync(switchover.New, token),
            async () =>
            {
                await switchover.Old.KillAsync();
                await switchover.Old.DisposeAsync();
                host.Directory.RemoveSockets(switchover.Old.Generation);
                host.Directory.RemoveTransferSockets(switchover.New.Generation);
            });
        return Finish(report);
    }

    private async Task PrepareAsync(
        Switchover switchover, IUpdateEngine engine, VmInspection inspection, SwitchoverWatch watch, CancellationToken cancellationToken)
    {
        await _faults.HitAsync(FaultPoint.PrepareSpawn, cancellationToken);
        using (var start = engine.Start(switchover))
            switchover.New = host.StartVmm(switchover.NewGeneration, switchover.NewFacts, start);
        try
        {
            Journal(new UpdateJournal(
                UpdateJournal.CurrentSchema,
                engine.Name,
                switchover.Old.Generation,
                switchover.NewGeneration,
                switchover.New.Pid,
                ProcFs.StartTimeTicks(switchover.New.Pid),
                switchover.NewFacts.Path,
                _wasRunning,
                switchover.NewFacts.Version.ToString(),
                _started,
                engine.CompletionIsFinal(inspection)));
            await _faults.HitAsync(FaultPoint.PrepareSpawned, cancellationToken);
            await engine.PrepareAsync(switchover, cancellationToken);
        }
        catch (Exception e) when (e is VmmExitedException or QmpException or SyscallException)
        {
            // That the old VMM finds nobody to talk to, or /proc no such process, is a consequence; the cause is what the new one said before it ended.
            if ((e as VmmExitedException ?? await EndOfAsync(switchover.New)) is not { } ended)
                throw;
            if (ended.Status.Code is null)
                throw ended;
            throw new UpdateException("start-refused", ended.Message, "the new VMM does not accept this VM's command line: see what it said", ended) { IsRefusal = true };
        }

        watch.WatchNew(switchover.New);
        await _faults.HitAsync(FaultPoint.PrepareReady, cancellationToken);
        var built = await VmInspector.InspectAsync(switchover.New, switchover.NewFacts, cancellationToken);
        TopologyComparer.Require(inspection, built);
        await Task.WhenAll(HeapTrim.ProvokeAsync(switchover.New, logger, cancellationToken), HeapTrim.ProvokeAsync(switchover.Old, logger, cancellationToken));
        if (inspection.Accelerator == "kvm")
            _kvmThreads.UnionWith([.. inspection.CpuThreads, .. built.CpuThreads]);
        _findings.AddRange(MachineRules.Compare(inspection, built));
        if (_findings.Find(f => f.Severity == Severity.Fail) is { } blocker)
            throw new UpdateException(blocker.Id, $"{blocker.Object}: {blocker.Evidence}", blocker.Fix) { IsRefusal = true };
        _findings.AddRange(await host.MatchProcessAsync(switchover.New, cancellationToken));
        _findings.AddRange(await host.RepeatSettingsAsync(switchover.New, cancellationToken));
        await host.PrepareConsolesAsync(switchover.New, cancellationToken);
        await host.HoldListenersAsync(switchover.Old, cancellationToken);
        await host.PrepareNetworkAsync(switchover.Old, cancellationToken);
        _drain = RingDrain.Of(switchover.Old);
        await _faults.HitAsync(FaultPoint.PrepareVerified, cancellationToken);
    }

    private static async Task StoppedAsync(Switchover switchover, IUpdateEngine engine, SwitchoverWatch watch, CancellationToken cancellationToken)
    {
        var stopped = FirstOfAsync(watch.OldStopped, watch.OldFinished, switchover, cancellationToken);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (await Task.WhenAny(stopped, Task.Delay(Patience, patience.Token)) != stopped)
            await engine.HurryAsync(switchover, cancellationToken);
        await patience.CancelAsync();
        await stopped;
    }

    private static async Task<VmmExitedException?> EndOfAsync(Vmm vmm)
    {
        await ((Task)vmm.Exited.WaitAsync(TimeSpan.FromSeconds(1))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return vmm.Exited.IsCompletedSuccessfully ? new VmmExitedException(vmm, await vmm.Exited, vmm.LogTail()) : null;
    }

    private static async Task TransferAsync(Switchover switchover, SwitchoverWatch watch, CancellationToken cancellationToken)
    {
        var sent = await FirstOfAsync(watch.OldFinished, watch.NewFinished, switchover, cancellationToken);
        if (sent is null || (switchover.AwaitsLoad && sent == "completed"))
            await LoadedAsync(switchover, watch, cancellationToken);
        sent ??= await FirstOfAsync(watch.OldFinished, null, switchover, cancellationToken);
        if (sent != "completed")
            throw new UpdateException("transfer-failed", $"the old VMM reported the transfer as {sent}: {await MigrationQuery.ErrorAsync(switchover.Old)}", "see the VMM's log");
    }

    private static async Task LoadedAsync(Switchover switchover, SwitchoverWatch watch, CancellationToken cancellationToken)
    {
        if (await FirstOfAsync(watch.NewFinished, null, switchover, cancellationToken) is var loaded && loaded != "completed")
            throw new UpdateException("load-failed", $"the new VMM could not load the state ({loaded}): {switchover.New.LogTail()}", "see the VMM's log");
    }

    private async Task CommitAsync(Switchover switchover, SwitchoverWatch watch, CancellationToken cancellationToken)
    {
        await host.ConnectNetworkAsync(switchover.New);
        if (!_wasRunning)
        {
            if (await switchover.New.QueryRunStateAsync(cancellationToken) is var state && state != "paused")
                throw new UpdateException("verify", $"the new VMM is '{state}' where 'paused' was expected", "see the VMM's log");
            return;
        }

        host.Mark(SwitchStep.Committing);
        _continued = true;
        var told = switchover.New.ExecuteAsync("cont", cancellationToken);
        try
        {
            await _faults.HitAsync(FaultPoint.CommitContinued, cancellationToken);
            await told;
        }
        catch (QmpConnectionException)
        {
            if (await EndOfAsync(switchover.New) is { } ended)
                throw ended;
            throw;
        }
        finally
        {
            await ((Task)told).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        await LoadedAsync(switchover, watch, cancellationToken);
        await FirstOfAsync(watch.NewResumed, null, switchover, cancellationToken);
    }

    private void Journal(UpdateJournal journal)
    {
        _journal = journal;
        host.SaveJournal(journal);
    }

    /// <summary>
    /// Whether the old VMM has sent the guest away, and with its devices can no longer run it. While its migration is under way, QEMU itself
    /// decides between completion and our cancellation: nobody may end the new VMM before that.
    /// </summary>
    private async Task<bool> HasSentAwayAsync(Switchover switchover)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(options.RollbackDeadlineSeconds));
        try
        {
            return await OldVmmRecovery.EndMigrationAsync(switchover.Old, deadline.Token) == OldVmmRecovery.SentAway;
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
    private async Task<bool> TryGoForwardAsync(Switchover switchover, SwitchoverWatch watch, bool pastReturn, ReportError cause)
    {
        if (switchover.New.Exited.IsCompleted)
            return false;

        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(options.RollbackDeadlineSeconds));
        try
        {
            if (!pastReturn && !switchover.Old.Exited.IsCompleted)
                return _continued && await HasBegunAsync(switchover, watch, cause, deadline.Token);

            // What was not loaded whole is still 'inmigrate', and goes on by itself only if it was told to.
            var state = await switchover.New.QueryRunStateAsync(deadline.Token);
            if (state == "paused" || (state == "inmigrate" && _continued))
                await CommitAsync(switchover, watch, deadline.Token);
            else if (state != "running")
                return false;
            _findings.Add(pastReturn
                ? Finding.Warn(
                    "point-of-no-return", switchover.Old.Binary,
                    $"{cause.Message}; the old VMM (pid {switchover.Old.Pid}) had let go of KVM and could not resume, so the new one, which had the whole guest, goes on with it", "")
                : Finding.Warn(
                    "old-vmm-ended", switchover.Old.Binary,
                    $"the old VMM (pid {switchover.Old.Pid}) ended in the pause: {await switchover.Old.Exited}; the new one had the whole guest and goes on with it ({cause.Message})", "see the VMM's log"));
            return true;
        }
        catch (Exception e) when (e is QmpException or IOException or OperationCanceledException or TimeoutException or UpdateException or VmmExitedException)
        {
            LogRollback($"not forward either: {e.Message}");
            return false;
        }
    }

    /// <summary>Whether a new VMM that was told to go on has done so, seen while it stands still; then it goes on, or else it stays frozen.</summary>
    private async Task<bool> HasBegunAsync(Switchover switchover, SwitchoverWatch watch, ReportError cause, CancellationToken cancellationToken)
    {
        await switchover.New.FreezeAsync().WaitAsync(cancellationToken);
        await watch.DrainNewAsync().WaitAsync(cancellationToken);
        if (!watch.NewResumed.IsCompletedSuccessfully)
            return false;

        await switchover.New.ThawAsync(cancellationToken);
        _findings.Add(Finding.Warn(
            "late-resume", switchover.New.Binary, $"{cause.Message}; by then the new VMM (pid {switchover.New.Pid}) ran the guest, and goes on with it", "raise Update:PauseDeadlineMs if the host is only slow"));
        return true;
    }

    /// <summary>Waits for one event, unless the other comes first, the new VMM ends, or time is up.</summary>
    private static async Task<T?> FirstOfAsync<T>(Task<T> wanted, Task<string>? ending, Switchover switchover, CancellationToken cancellationToken)
    {
        var exited = switchover.New.Exited;
        var first = await Task.WhenAny([wanted, exited, .. ending is null ? Array.Empty<Task>() : [ending]]).WaitAsync(cancellationToken);
        if (first == wanted || wanted.IsCompleted)
            return await wanted;
        if (first == exited)
            throw new VmmExitedException(switchover.New, await exited, switchover.New.LogTail());
        return default;
    }

    private async Task<UpdateReport> RollBackAsync(
        UpdateReport report, Switchover switchover, IUpdateEngine engine, SwitchoverWatch watch, bool pastReturn, UpdateOutcome unpaused)
    {
        LogRollback(report.Error?.Message ?? "");
        _clock.Enter(UpdatePhase.Rollback);
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(options.RollbackDeadlineSeconds));
        try
        {
            await _faults.NoteAsync(FaultPoint.RollbackBegin, _findings, host.Directory.Name);
            if (pastReturn)
            {
                throw new UpdateException(
                    "past-return", $"the old VMM (pid {switchover.Old.Pid}) has let go of KVM and cannot resume, and the new one (pid {switchover.New.Pid}) does not go on", "see the logs of both VMMs; if the new one is dead, start the VM again");
            }

            if (switchover.HasNew)
            {
                if (watch.NewResumed.IsCompletedSuccessfully && !switchover.New.Exited.IsCompleted)
                    throw new UpdateException("new-vmm-deaf", $"the new VMM (pid {switchover.New.Pid}) has begun to run the guest, but does not answer", "look at it before you end it: it has the guest");
                await switchover.New.KillAsync().WaitAsync(deadline.Token);
                await watch.DrainNewAsync().WaitAsync(deadline.Token);
                if (watch.NewResumed.IsCompletedSuccessfully)
                    throw new UpdateException(Recovery.GuestLost, "the new VMM ended after it had begun to run the guest; the guest ended with it", "start the VM again");
            }

            await Settling.BackAsync(engine, switchover.Old, _findings, deadline.Token);
            await ReconnectAsync(switchover.Old, deadline.Token);
            await OldVmmRecovery.GiveGuestBackAsync(switchover.Old, _wasRunning, deadline.Token);
            await engine.RestoreAsync(switchover.Old, deadline.Token);
            if (switchover.HasNew)
            {
                await switchover.New.DisposeAsync();
                host.Directory.RemoveSockets(switchover.NewGeneration);
            }

            await _faults.NoteAsync(FaultPoint.RollbackEnd, _findings, host.Directory.Name);
            host.SaveJournal(null);
            return Finish(report with { Outcome = watch.OldStopped.IsCompletedSuccessfully ? UpdateOutcome.RolledBack : unpaused, PauseMs = watch.ReturnMs });
        }
        catch (UpdateException e) when (e.Code == OldVmmRecovery.OldVmmEnded && !watch.OldStopped.IsCompletedSuccessfully)
        {
            // Nobody stopped it: the guest powered off, or its VMM died, while it still ran there.
            host.SaveJournal(null);
            return Finish(report with { Outcome = UpdateOutcome.Failed, Error = new ReportError("guest-ended", $"the guest ended on the old VMM during the update: {e.Message}", e.Fix) });
        }
        catch (UpdateException e) when (e.Code == Recovery.GuestLost)
        {
            // What the old VMM remembers is no longer what is in memory and on the disks: it must not be continued, by nobody.
            await switchover.Old.KillAsync();
            return Finish(report with { Outcome = UpdateOutcome.Unknown, Error = new ReportError(e.Code, $"{report.Error?.Message}; {e.Message}", e.Fix) });
        }
        catch (Exception e)
        {
            LogUnknown(e);
            return Finish(report with
            {
                Outcome = UpdateOutcome.Unknown,
                Error = new ReportError(
                    "guest-state-unknown",
                    $"{report.Error?.Message}; and the way back failed: {e.Message}",
                    $"look at the VMMs with `cprsharp status {host.Directory.Name}`; the old one is pid {switchover.Old.Pid}"),
            });
        }
        finally
        {
            host.ReleaseClients();
        }
    }

    /// <summary>A guest without its network is better than none.</summary>
    private async Task ReconnectAsync(Vmm old, CancellationToken cancellationToken)
    {
        try
        {
            await host.ReturnNetworkAsync(old, cancellationToken);
        }
        catch (UpdateException e)
        {
            _findings.Add(Finding.Warn(e.Code, old.Binary, e.Message, e.Fix));
        }
        catch (Exception e) when (e is QmpException or QmpConnectionException)
        {
            _findings.Add(Finding.Warn("tap-handover", old.Binary, $"what it was lent for the pause stays there: {e.Message}", ""));
        }
    }

    private UpdateReport Finish(UpdateReport report)
    {
        _clock.End();
        if (host.TakeNetworkLoss() is { } loss)
            _findings.Add(loss);
        return report with
        {
            TotalMs = Math.Round(_clock.TotalMs, 3),
            Phases = _clock.Phases,
            Findings = [.. _findings],
        };
    }

    private ReportError Describe(Exception exception, string where, CancellationToken asked) => exception switch
    {
        UpdateException e => new ReportError(e.Code, e.Message, e.Fix),
        FaultInjectedException e => new ReportError("fault-injected", e.Message, "unset CPRSHARP_FAULT"),
        OperationCanceledException when asked.IsCancellationRequested => new ReportError("cancelled", $"cancelled on request; {where}", ""),
        OperationCanceledException => new ReportError(
            "deadline",
            $"the {_clock.Current?.ToString().ToLowerInvariant()} phase did not end in time; {where}",
            "raise Update:PrepareDeadlineSeconds or Update:PauseDeadlineMs if the host is only slow"),
        VmmExitedException e => new ReportError("vmm-ended", e.Message, "see the VMM's log"),
        QmpException e => new ReportError("qmp-error", $"{e.Command}: {e.Description}", "see the VMM's log"),
        _ => new ReportError("internal", $"{exception.GetType().Name}: {exception.Message}", "see the supervisor's log"),
    };

    private static CancellationTokenSource Deadline(TimeSpan time, CancellationToken cancellationToken)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        source.CancelAfter(time);
        return source;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "update given up, going back to the old VMM: {Reason}")]
    private partial void LogRollback(string reason);

    [LoggerMessage(Level = LogLevel.Critical, Message = "the guest's state is unknown")]
    private partial void LogUnknown(Exception exception);
}
