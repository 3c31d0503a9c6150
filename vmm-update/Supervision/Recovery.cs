using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Takes a VM over whose supervisor was lost, also in the middle of an update.</summary>
/// <remarks>
/// Which VMM has the guest is asked of the VMMs. The new one never runs it by itself (<c>-S</c>), and the old one never again once it
/// is <c>postmigrate</c>; so: a running or resumable old VMM keeps the guest, a fully loaded new one gets it, and the other ends.
/// </remarks>
internal static class Recovery
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <exception cref="UpdateException">There is no such VM, or its guest is gone.</exception>
    public static async Task<VmSupervisor> TakeOverAsync(VmDirectory directory, ILogger logger, CancellationToken cancellationToken)
    {
        var record = VmFiles.ReadRecord(directory)
            ?? throw new UpdateException("no-such-vm", $"no VM '{directory.Name}' is recorded in {directory.Path}", "give its QMP socket: cprsharp adopt NAME --qmp PATH");
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
        var choice = (journal, recorded) switch
        {
            (not null, _) when !inPlace => await ChooseAsync(recorded, other, journal, record.Spec, SwitchMark.Read(directory), deadline.Token),
            (_, null) => null,
            (null, _) => new Choice(recorded, UpdateOutcome.Updated, ""),
            _ => await SettleInPlaceAsync(directory, recorded, journal, deadline.Token),
        };
        foreach (var leftover in new[] { inPlace ? null : recorded, other }.Where(v => v is not null && v != choice?.Vmm))
        {
            await leftover!.KillAsync();
            await leftover.DisposeAsync();
        }

        if (choice is null)
            throw new UpdateException("guest-gone", $"the VMM of '{directory.Name}' (pid {record.Pid}) has ended, and the guest with it", "start the VM again");
        StrayVmms.End(directory, record.Generation + 1, choice.Vmm.Pid);
        foreach (var generation in new[] { record.Generation, record.Generation + 1 }.Where(g => g != choice.Vmm.Generation))
            directory.RemoveSockets(generation);
        var report = journal is null ? null : ReportOf(record, journal, choice);
        var moved = choice.Vmm.Generation != record.Generation;
        if (moved)
        {
            record = record with
            {
                PreviousBinary = record.Binary,
                Binary = choice.Vmm.Binary,
                Version = choice.Vmm.Version.ToString(),
                Generation = choice.Vmm.Generation,
                Pid = choice.Vmm.Pid,
                StartTicks = ProcFs.StartTimeTicks(choice.Vmm.Pid),
                QmpPath = choice.Vmm.QmpPath,
            };
        }

        directory.RemoveTransferSockets(choice.Vmm.Generation);
        if (journal is not null)
        {
            PauseBoost.Undo(choice.Vmm.Pid);
            await MigrationSettings.ResetAsync(choice.Vmm, deadline.Token);
        }

        var supervisor = VmSupervisor.TakeOver(directory, record, HeldDescriptors.TakeFrom(record.Spec, choice.Vmm.PidFd), choice.Vmm, logger);
        if (report is not null)
        {
            SupervisorLog.Recovered(logger, choice.Story);
            supervisor.Remember(report);
        }

        supervisor.SaveJournal(null);
        if (moved)
        {
            foreach (var finding in await supervisor.AfterCommitAsync(choice.Vmm, deadline.Token))
                SupervisorLog.Recovered(logger, $"{finding.Object}: {finding.Evidence}");
        }

        return supervisor;
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

    private static async Task<Choice?> ChooseAsync(Vmm? old, Vmm? fresh, UpdateJournal journal, VmSpec spec, SwitchStep step, CancellationToken cancellationToken)
    {
        // No 'fresh' and no 'old' beside it: the record names the new VMM already, and only the journal's end was missing.
        if (fresh is null && old?.Generation == journal.NewGeneration)
            return new Choice(old, UpdateOutcome.Updated, Committed);

        // The new VMM had the guest and died with it: memory and disks are not what the old one remembers.
        if (fresh is null && step == SwitchStep.Committing)
            return null;

        var freshState = fresh switch
        {
            null => "gone",
            { Qmp.State: QmpClientState.Running } => await fresh.QueryRunStateAsync(cancellationToken),
            _ => "building",
        };
        if (freshState == "running")
            return new Choice(fresh!, UpdateOutcome.Updated, Committed);

        if (old is not null)
        {
            // Waits for the old VMM's migration to end one way or the other; only then can the choice not change under us.
            await using var watch = new SwitchoverWatch();
            watch.WatchOld(old);
            var state = await old.QueryRunStateAsync(cancellationToken);
            if (fresh is not null && state == "finish-migrate")
            {
                await watch.OldFinished.WaitAsync(cancellationToken);
                state = await old.QueryRunStateAsync(cancellationToken);
                freshState = await fresh.QueryRunStateAsync(cancellationToken);
            }

            if (state != "postmigrate" || freshState != "paused")
            {
                if (fresh is not null)
                    await fresh.KillAsync();
                await Task.Run(() => TapStandIns.Connect(old.PidFd, spec), cancellationToken);
                await OldVmmRecovery.GiveGuestBackAsync(old, journal.WasRunning, cancellationToken);
                return step == SwitchStep.None
                    ? new Choice(old, UpdateOutcome.Failed, "the guest had not left the old VMM and stays there")
                    : new Choice(old, UpdateOutcome.RolledBack, "the pause had begun, and the guest was not yet moved: it goes on on the old VMM");
            }
        }

        if (freshState != "paused")
            return null;
        await Task.Run(() => TapStandIns.Connect(fresh!.PidFd, spec), cancellationToken);

        if (journal.WasRunning)
            await fresh!.ExecuteAsync("cont", cancellationToken);
        return new Choice(fresh!, UpdateOutcome.Updated, "the transfer was complete: the new VMM was given the guest");
    }

    private static UpdateReport ReportOf(VmRecord record, UpdateJournal journal, Choice choice) => new()
    {
        Vm = record.Name,
        Outcome = choice.Outcome,
        Engine = journal.Engine,
        Started = journal.Started,
        From = record.Generation == journal.NewGeneration
            ? new VmmEnd("", record.PreviousBinary ?? "", 0)
            : new VmmEnd(record.Version, record.Binary, record.Pid),
        To = new VmmEnd(journal.NewVersion, journal.NewBinary, journal.NewPid),
        TotalMs = Math.Round((DateTimeOffset.UtcNow - journal.Started).TotalMilliseconds, 3),
        Findings = [Finding.Warn("supervisor-lost", record.Name, $"the supervisor was lost during the update, another took over: {choice.Story}", "see the supervisor's log")],
        Error = choice.Outcome == UpdateOutcome.Updated ? null : new ReportError("supervisor-lost", $"the supervisor was lost during the update; {choice.Story}", "try again"),
    };

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

    /// <summary>The VMM that keeps the guest, and what that makes of the update.</summary>
    private sealed record Choice(Vmm Vmm, UpdateOutcome Outcome, string Story);
}
