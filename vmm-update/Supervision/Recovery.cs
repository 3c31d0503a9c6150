using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Qemu;
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

        var recorded = await TryAttachAsync(directory, record.QmpPath, record.Generation, record.Binary, record.Pid, record.StartTicks, deadline.Token);
        var other = journal is null || journal.NewGeneration == record.Generation
            ? null
            : await TryAttachAsync(
                directory, directory.MonitorSocket(journal.NewGeneration), journal.NewGeneration, journal.NewBinary, journal.NewPid, journal.NewStartTicks, deadline.Token);
        var chosen = await ChooseAsync(recorded, other, journal, record.Spec, logger, deadline.Token)
            ?? throw new UpdateException("guest-gone", $"the VMM of '{directory.Name}' (pid {record.Pid}) has ended", "start the VM again");

        if (chosen == other && other is not null)
        {
            record = record with
            {
                PreviousBinary = record.Binary,
                Binary = other.Binary,
                Version = other.Version.ToString(),
                Generation = other.Generation,
                Pid = other.Pid,
                StartTicks = ProcFs.StartTimeTicks(other.Pid),
                QmpPath = other.QmpPath,
                LastOutcome = "updated",
                LastPauseMs = null,
                LastUpdate = DateTimeOffset.UtcNow,
                LastEngine = journal!.Engine,
            };
        }

        foreach (var leftover in new[] { recorded, other }.Where(v => v is not null && v != chosen))
        {
            await leftover!.KillAsync();
            await leftover.DisposeAsync();
            directory.RemoveSockets(leftover.Generation);
        }

        directory.RemoveTransferSockets(chosen.Generation);
        if (journal is not null)
            PauseBoost.Undo(chosen.Pid);
        VmFiles.Write(directory, (UpdateJournal?)null);
        var supervisor = VmSupervisor.TakeOver(directory, record, HeldDescriptors.TakeFrom(record.Spec, chosen.PidFd), chosen, logger);
        if (chosen == other)
        {
            foreach (var finding in await supervisor.AfterCommitAsync(chosen, deadline.Token))
                SupervisorLog.Recovered(logger, $"{finding.Object}: {finding.Evidence}");
        }

        return supervisor;
    }

    private static async Task<Vmm?> ChooseAsync(Vmm? old, Vmm? fresh, UpdateJournal? journal, VmSpec spec, ILogger logger, CancellationToken cancellationToken)
    {
        if (fresh is null || journal is null)
            return old;

        var freshState = fresh.Qmp.State == QmpClientState.Running ? await fresh.QueryRunStateAsync(cancellationToken) : "building";
        if (freshState == "running")
        {
            SupervisorLog.Recovered(logger, "the update had been committed: the new VMM runs the guest");
            return fresh;
        }

        if (old is not null)
        {
            // Waits for the old VMM's migration to end one way or the other; only then can the choice not change under us.
            await using var watch = new SwitchoverWatch();
            watch.WatchOld(old);
            var state = await old.QueryRunStateAsync(cancellationToken);
            if (state == "finish-migrate")
            {
                await watch.OldFinished.WaitAsync(cancellationToken);
                state = await old.QueryRunStateAsync(cancellationToken);
                freshState = await fresh.QueryRunStateAsync(cancellationToken);
            }

            if (state != "postmigrate" || freshState != "paused")
            {
                await fresh.KillAsync();
                await OldVmmRecovery.GiveGuestBackAsync(old, journal.WasRunning, cancellationToken);
                SupervisorLog.Recovered(logger, "the update had not been committed: the old VMM keeps the guest");
                return old;
            }
        }

        if (freshState != "paused")
            return old;
        await Task.Run(() => TapStandIns.Exchange(fresh.PidFd, spec), cancellationToken);

        if (journal.WasRunning)
            await fresh.ExecuteAsync("cont", cancellationToken);
        SupervisorLog.Recovered(logger, "the transfer was complete: the new VMM was given the guest");
        return fresh;
    }

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
}
