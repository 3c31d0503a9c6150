using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Takes a VM over whose supervisor was lost, also in the middle of an update.</summary>
/// <remarks>
/// Which VMM has the guest is asked of the VMMs. The new one never runs it before it is told to (<c>-S</c>; what it was told while it still
/// loaded holds from when it has loaded), and the old one never again once it is <c>postmigrate</c>; so: a running or resumable old VMM keeps
/// the guest, a fully loaded new one gets it, and the other ends. A <c>postmigrate</c> old VMM can be resumed unless it has let go of
/// passed-through devices and KVM: the journal says which.
/// </remarks>
internal static class Recovery
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <summary>The code of the failure when neither VMM can run the guest.</summary>
    public const string GuestLost = "guest-lost";

    /// <param name="directory">The VM's.</param>
    /// <param name="stored">What was kept for its next supervisor.</param>
    /// <param name="logger">Hears what became of the update.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <exception cref="UpdateException">There is no such VM, or its guest is gone.</exception>
    public static async Task<VmSupervisor> TakeOverAsync(VmDirectory directory, StoredDescriptors stored, ILogger logger, CancellationToken cancellationToken)
    {
        var record = VmFiles.ReadRecord(directory)
            ?? throw new UpdateException("no-such-vm", $"no VM '{directory.Name}' is recorded in {directory.Path}", "give its QMP socket: cprsharp adopt NAME --qmp PATH");
        ScratchDirectory.RemoveOf(record.SupervisorPid);
        var journal = VmFiles.ReadJournal(directory);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);

        var inPlace = InPlaceRecovery.IsUnderWay(record, journal);
        var monitor = inPlace ? InPlaceRecovery.MonitorSocket(directory, record, journal!) : record.QmpPath;
        var recorded = await TryAttachAsync(directory, monitor, record.Generation, record.Binary, record.Pid, record.StartTicks, deadline.Token);
        var other = inPlace || journal is null || journal.NewGeneration == record.Generation
            ? null
            : await TryAttachAsync(
                directory, directory.MonitorSocket(journal.NewGeneration), journal.NewGeneration, journal.NewBinary, journal.NewPid, journal.NewStartTicks, deadline.Token);
        var choice = journal switch
        {
            null => new Choice(recorded, UpdateOutcome.Updated, ""),
            _ when !inPlace => await ChooseAsync(recorded, other, journal, record.Spec, SwitchMark.Read(directory), deadline.Token),
            _ when recorded is null => new Choice(null, UpdateOutcome.Unknown, ""),
            _ => await SettleInPlaceAsync(directory, recorded, journal, deadline.Token),
        };
        foreach (var leftover in new[] { inPlace ? null : recorded, other }.Where(v => v is not null && v != choice.Vmm))
        {
            await leftover!.KillAsync();
            await leftover.DisposeAsync();
        }

        if (choice.Vmm is not { } keeper)
            throw Lost(directory, record, journal, choice);
        StrayVmms.End(directory, record.Generation + 1, keeper.Pid);
        foreach (var generation in new[] { record.Generation, record.Generation + 1 }.Where(g => g != keeper.Generation))
            directory.RemoveSockets(generation);
        var trouble = journal?.TakenOut is { } taken
            ? await LostBars.PutBackAsync(keeper, taken, fromKeeper: keeper.Generation == journal.OldGeneration, deadline.Token)
            : [];
        var report = journal is null ? null : ReportOf(record, journal, choice, trouble);
        var moved = keeper.Generation != record.Generation;
        if (moved)
        {
            record = record with
            {
                PreviousBinary = record.Binary,
                Binary = keeper.Binary,
                Version = keeper.Version.ToString(),
                Generation = keeper.Generation,
                Pid = keeper.Pid,
                StartTicks = ProcFs.StartTimeTicks(keeper.Pid),
                QmpPath = keeper.QmpPath,
            };
        }

        directory.RemoveTransferSockets(keeper.Generation);
        if (journal is not null)
        {
            PauseBoost.Undo(keeper.Pid);
            await MigrationSettings.ResetAsync(keeper, deadline.Token);
        }

        var supervisor = VmSupervisor.TakeOver(directory, record, HeldDescriptors.TakeFrom(record.Spec, keeper.PidFd), stored, keeper, logger);
        if (report is not null)
            SupervisorLog.Recovered(logger, choice.Story);
        Save(supervisor, report, logger);
        if (moved)
        {
            foreach (var finding in await supervisor.AfterCommitAsync(keeper, deadline.Token))
                SupervisorLog.Recovered(logger, $"{finding.Object}: {finding.Evidence}");
        }

        return supervisor;
    }

    /// <summary>A disk that is full keeps nobody from the guest. What is written there then stays, the journal too: the next one comes to the same end by it.</summary>
    private static void Save(VmSupervisor supervisor, UpdateReport? report, ILogger logger)
    {
        try
        {
            if (report is null)
                supervisor.SaveRecord();
            else
                supervisor.Remember(report);
            supervisor.SaveJournal(null);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            SupervisorLog.HistoryNotWritten(logger, supervisor.Directory.Record, e);
        }
    }

    private static async Task<Choice> SettleInPlaceAsync(VmDirectory directory, Vmm vmm, UpdateJournal journal, CancellationToken cancellationToken)
    {
        var step = SwitchMark.Read(directory);
        if (await InPlaceRecovery.SettleAsync(vmm, directory, journal, step, cancellationToken) is { } successor)
            return new Choice(successor, UpdateOutcome.Updated, "the VMM's process had become the new program, which goes on with the guest");
        return step == SwitchStep.None
            ? new Choice(vmm, UpdateOutcome.Failed, "the guest had not left the old program and stays there")
            : new Choice(vmm, UpdateOutcome.RolledBack, "the pause had begun, and the old program was not yet replaced: the guest goes on on it");
    }

    private static async Task<Choice> ChooseAsync(Vmm? old, Vmm? fresh, UpdateJournal journal, VmSpec spec, SwitchStep step, CancellationToken cancellationToken)
    {
        // No 'fresh' and no 'old' beside it: the record names the new VMM already, and only the journal's end was missing.
        if (fresh is null && old?.Generation == journal.NewGeneration)
            return new Choice(old, UpdateOutcome.Updated, Committed);

        if (fresh is null && step == SwitchStep.Committing)
            return EndedWithGuest;

        if (await RunStateAsync(fresh, cancellationToken) == "running")
            return new Choice(fresh, UpdateOutcome.Updated, Committed);

        // Only when the old VMM's migration has ended one way or the other can the choice not change under us.
        var sentAway = old is not null && await OldVmmRecovery.EndMigrationAsync(old, cancellationToken) == OldVmmRecovery.SentAway;
        var load = fresh is not null && (sentAway || old is null) ? await LoadAsync(fresh, step, cancellationToken) : Load.Failed;
        switch (load)
        {
            case Load.EndedWithGuest:
                return EndedWithGuest;
            case Load.Running:
                return new Choice(fresh, UpdateOutcome.Updated, Committed);
            case Load.Paused:
                await Task.Run(() => TapStandIns.Reconnect(fresh!.PidFd, spec), cancellationToken);
                if (journal.WasRunning)
                    await fresh!.ExecuteAsync("cont", cancellationToken);
                return new Choice(fresh, UpdateOutcome.Updated, "the transfer was complete: the new VMM was given the guest");
        }

        if (old is null)
            return new Choice(null, UpdateOutcome.Unknown, step == SwitchStep.None ? "" : "the old VMM has ended, and the new one has not got the guest whole");
        if (sentAway && journal.CompletionIsFinal)
        {
            return new Choice(
                null, UpdateOutcome.Unknown,
                $"the old VMM (pid {old.Pid}) had reported completion and so let go of KVM and its passed-through devices: it cannot resume; the new one (pid {journal.NewPid}) {(fresh is null ? "has ended" : "could not load the guest")}");
        }

        if (fresh is not null)
            await fresh.KillAsync();
        await Task.Run(() => TapStandIns.Reconnect(old.PidFd, spec), cancellationToken);
        await TapDiversion.RemoveAsync(old, cancellationToken);
        await OldVmmRecovery.GiveGuestBackAsync(old, journal.WasRunning, cancellationToken);
        return step == SwitchStep.None
            ? new Choice(old, UpdateOutcome.Failed, "the guest had not left the old VMM and stays there")
            : new Choice(old, UpdateOutcome.RolledBack, "the pause had begun, and the guest was not yet moved: it goes on on the old VMM");
    }

    private static async Task<string> RunStateAsync(Vmm? fresh, CancellationToken cancellationToken) => fresh switch
    {
        null => "gone",
        { Qmp.State: QmpClientState.Running } => await fresh.QueryRunStateAsync(cancellationToken),
        _ => "building",
    };

    private enum Load
    {
        /// <summary>It could not, and has not run the guest.</summary>
        Failed,

        /// <summary>It has the whole guest.</summary>
        Paused,

        /// <summary>It had been told to go on when it has loaded, and does.</summary>
        Running,

        /// <summary>It has ended, and may have run the guest before.</summary>
        EndedWithGuest,
    }

    /// <summary>Waits for the end of loading what the old VMM has sent.</summary>
    private static async Task<Load> LoadAsync(Vmm fresh, SwitchStep step, CancellationToken cancellationToken)
    {
        await using var watch = new SwitchoverWatch();
        var mayHaveRun = step == SwitchStep.Committing;
        try
        {
            await fresh.ReconnectAsync(cancellationToken);
            watch.WatchNew(fresh);
            if (await fresh.QueryRunStateAsync(cancellationToken) == "inmigrate")
            {
                mayHaveRun = false; // not before now; and what it does from now on is seen
                await Task.WhenAny(watch.NewFinished, fresh.Exited).WaitAsync(cancellationToken);
            }

            switch (await fresh.QueryRunStateAsync(cancellationToken))
            {
                case "running": return Load.Running;
                case "paused": return Load.Paused;
            }
        }
        catch (IOException)
        {
            // It has ended, or never opened its monitor; what it said before is looked at.
            await fresh.Qmp.FinishReadingAsync();
            await watch.DrainNewAsync();
        }

        return mayHaveRun || watch.NewResumed.IsCompletedSuccessfully ? Load.EndedWithGuest : Load.Failed;
    }

    /// <summary>The guest cannot go on. What is known is kept, so that whoever waits for the update learns it.</summary>
    private static UpdateException Lost(VmDirectory directory, VmRecord record, UpdateJournal? journal, Choice choice)
    {
        if (journal is null || choice.Story.Length == 0)
            return new UpdateException("guest-gone", $"the VMM of '{directory.Name}' (pid {record.Pid}) has ended, and the guest with it", "start the VM again");

        StrayVmms.End(directory, record.Generation + 1, except: 0);
        UpdateHistory.Append(directory, ReportOf(record, journal, choice, []));
        VmFiles.Write(directory, (UpdateJournal?)null);
        SwitchMark.Delete(directory);
        return new UpdateException(GuestLost, $"the guest of '{directory.Name}' is lost: {choice.Story}", "start the VM again") { LeavesStateUnknown = true };
    }

    private static UpdateReport ReportOf(VmRecord record, UpdateJournal journal, Choice choice, IReadOnlyList<Finding> trouble) => new()
    {
        Vm = record.Name,
        Outcome = choice.Outcome,
        Engine = journal.Engine,
        Started = journal.Started,
        From = record.Generation == journal.NewGeneration
            ? new VmmEnd("", record.PreviousBinary ?? "", 0)
            : new VmmEnd(record.Version, record.Binary, record.Pid),
        To = new VmmEnd(journal.NewVersion, journal.NewBinary, journal.NewPid),
        TotalMs = journal.Began == 0 ? 0 : Math.Round(TimeProvider.System.GetElapsedTime(journal.Began).TotalMilliseconds, 3),
        Findings = [Finding.Warn("supervisor-lost", record.Name, $"the supervisor was lost during the update, another took over: {choice.Story}", "see the supervisor's log"), .. trouble],
        Error = choice.Outcome switch
        {
            UpdateOutcome.Updated => null,
            UpdateOutcome.Unknown => new ReportError(GuestLost, $"the supervisor was lost during the update, and the guest with it: {choice.Story}", "start the VM again"),
            _ => new ReportError("supervisor-lost", $"the supervisor was lost during the update; {choice.Story}", "try again"),
        },
    };

    private static readonly Choice EndedWithGuest =
        new(null, UpdateOutcome.Unknown, "the new VMM had been given the guest and has ended with it: memory and disks are not what the old one remembers");

    private const string Committed = "the update had been committed: the new VMM runs the guest";

    private static async Task<Vmm?> TryAttachAsync(
        VmDirectory directory, string qmpPath, int generation, string binary, int pid, long startTicks, CancellationToken cancellationToken)
    {
        if (!RecordedVm.Runs(pid, startTicks))
            return null;

        var pidFd = PidFd.Open(pid);
        var qmp = new QmpClient();
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(TimeSpan.FromSeconds(5));
        try
        {
            await qmp.ConnectAsync(UnixSocket.Connect(qmpPath), soon.Token);
            return Vmm.FromForeign(generation, binary, qmpPath, pidFd, qmp, directory.VmmLog(generation));
        }
        catch (Exception e) when (e is IOException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            // A new VMM that still waits for the old one's descriptors has no monitor yet.
            return Vmm.FromUnanswering(generation, binary, qmpPath, pidFd, qmp, directory.VmmLog(generation));
        }
    }

    /// <summary>The VMM that keeps the guest (null: none can), and what that makes of the update.</summary>
    private sealed record Choice(Vmm? Vmm, UpdateOutcome Outcome, string Story);
}
