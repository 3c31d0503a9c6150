using CprSharp.Qmp;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>The way back to the old VMM, after the new one is seen to be dead and never to have run the guest.</summary>
internal sealed partial class SwitchoverReturn(UpdateRun run, IUpdateEngine engine, Switchover switchover, SwitchoverWatch watch)
{
    private readonly ILogger _logger = run.Logger;

    /// <param name="report">What went wrong.</param>
    /// <param name="pastReturn">Whether the old VMM can no longer run the guest.</param>
    /// <param name="unpaused">The outcome if the guest was not paused.</param>
    public async Task<UpdateReport> RunAsync(UpdateReport report, bool pastReturn, UpdateOutcome unpaused)
    {
        run.Clock.Enter(UpdatePhase.Rollback);
        using var deadline = run.ReturnDeadline();
        try
        {
            await run.Faults.NoteAsync(FaultPoint.RollbackBegin, run.Findings, run.Host.Directory.Name);
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

            await Settling.BackAsync(engine, switchover.Old, run.Findings, deadline.Token);
            await ReconnectAsync(switchover.Old, deadline.Token);
            await OldVmmRecovery.GiveGuestBackAsync(switchover.Old, switchover.WasRunning, deadline.Token);
            await engine.RestoreAsync(switchover.Old, deadline.Token);
            if (switchover.HasNew)
            {
                await switchover.New.DisposeAsync();
                run.Host.Directory.RemoveSockets(switchover.NewGeneration);
            }

            await run.Faults.NoteAsync(FaultPoint.RollbackEnd, run.Findings, run.Host.Directory.Name);
            run.Host.SaveJournal(null);
            return report with { Outcome = watch.OldStopped.IsCompletedSuccessfully ? UpdateOutcome.RolledBack : unpaused, PauseMs = watch.ReturnMs };
        }
        catch (UpdateException e) when (e.Code == OldVmmRecovery.OldVmmEnded && !watch.OldStopped.IsCompletedSuccessfully)
        {
            // Nobody stopped it: the guest powered off, or its VMM died, while it still ran there.
            run.Host.SaveJournal(null);
            return report with { Outcome = UpdateOutcome.Failed, Error = new ReportError("guest-ended", $"the guest ended on the old VMM during the update: {e.Message}", e.Fix) };
        }
        catch (UpdateException e) when (e.Code == Recovery.GuestLost)
        {
            // What the old VMM remembers is no longer what is in memory and on the disks: it must not be continued, by nobody.
            await switchover.Old.KillAsync();
            return report with { Outcome = UpdateOutcome.Unknown, Error = new ReportError(e.Code, $"{report.Error?.Message}; {e.Message}", e.Fix) };
        }
        catch (Exception e)
        {
            LogUnknown(e);
            return report with
            {
                Outcome = UpdateOutcome.Unknown,
                Error = new ReportError(
                    "guest-state-unknown",
                    $"{report.Error?.Message}; and the way back failed: {e.Message}",
                    $"look at the VMMs with `cprsharp status {run.Host.Directory.Name}`; the old one is pid {switchover.Old.Pid}"),
            };
        }
        finally
        {
            run.Host.ReleaseClients();
        }
    }

    /// <summary>A guest without its network is better than none.</summary>
    private async Task ReconnectAsync(Vmm old, CancellationToken cancellationToken)
    {
        try
        {
            await run.Host.ReturnNetworkAsync(old, cancellationToken);
        }
        catch (UpdateException e)
        {
            run.Findings.Add(Finding.Warn(e.Code, old.Binary, e.Message, e.Fix));
        }
        catch (Exception e) when (e is QmpException or QmpConnectionException)
        {
            run.Findings.Add(Finding.Warn("tap-handover", old.Binary, $"what it was lent for the pause stays there: {e.Message}", ""));
        }
    }

    [LoggerMessage(Level = LogLevel.Critical, Message = "the guest's state is unknown")]
    private partial void LogUnknown(Exception exception);
}
