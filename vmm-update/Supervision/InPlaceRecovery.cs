using CprSharp.Qmp;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Finds out which program a VMM's process runs after the supervisor was lost while it was being replaced, and lets that one go on.</summary>
/// <remarks>The old program has the migration mode of the update set, its successor has QEMU's default. The process, its PID and its start time are the same.</remarks>
internal static class InPlaceRecovery
{
    private static readonly TimeSpan Pace = TimeSpan.FromMilliseconds(20);

    /// <summary>Whether the update replaces the program of the recorded process, and the record does not yet say that it did.</summary>
    public static bool IsUnderWay(VmRecord record, UpdateJournal? journal) =>
        journal is not null && journal.NewGeneration != record.Generation && (journal.NewPid, journal.NewStartTicks) == (record.Pid, record.StartTicks);

    /// <summary>Where the process's monitor is: its socket is given the successor's name a moment before the record says so.</summary>
    public static string MonitorSocket(VmDirectory directory, VmRecord record, UpdateJournal journal) =>
        File.Exists(record.QmpPath) ? record.QmpPath : directory.MonitorSocket(journal.NewGeneration);

    /// <returns>The successor if it has the guest; null if the old program has.</returns>
    /// <exception cref="UpdateException">The process ended, and the guest with it.</exception>
    public static async Task<Vmm?> SettleAsync(Vmm vmm, VmDirectory directory, UpdateJournal journal, SwitchStep step, CancellationToken cancellationToken)
    {
        if (step == SwitchStep.None)
        {
            await vmm.ReconnectAsync(cancellationToken);
            return await InPlaceReturn.CallOffAsync(vmm, journal.WasRunning, cancellationToken) ? null : throw Gone(vmm);
        }

        while (true)
        {
            try
            {
                await vmm.ReconnectAsync(cancellationToken);
                if (!await IsOldAsync(vmm, cancellationToken))
                    return await GoOnAsync(vmm, directory, journal, cancellationToken);
                if (await InPlaceReturn.CallOffAsync(vmm, journal.WasRunning, cancellationToken))
                    return null;
            }
            catch (QmpConnectionException) when (!vmm.Exited.IsCompleted)
            {
                // Replaced under our hands, or not yet able to answer.
            }

            if (vmm.Exited.IsCompleted)
                throw Gone(vmm);
            await Task.Delay(Pace, cancellationToken);
        }
    }

    private static async Task<bool> IsOldAsync(Vmm vmm, CancellationToken cancellationToken) =>
        (await vmm.ExecuteAsync("query-migrate-parameters", cancellationToken)).GetProperty("mode").GetString() == ExecEngine.Mode;

    private static async Task<Vmm> GoOnAsync(Vmm vmm, VmDirectory directory, UpdateJournal journal, CancellationToken cancellationToken)
    {
        using var engine = new ExecEngine();
        if (await vmm.QueryRunStateAsync(cancellationToken) == "inmigrate")
            await engine.LoadAsync(vmm, directory.StateFile(journal.NewGeneration), cancellationToken);
        if (journal.WasRunning && await vmm.QueryRunStateAsync(cancellationToken) == "paused")
            await vmm.ExecuteAsync("cont", cancellationToken);
        directory.PassOn(journal.OldGeneration, journal.NewGeneration);
        return vmm.ReplacedBy(journal.NewGeneration, journal.NewBinary, directory, vmm.Qmp);
    }

    private static UpdateException Gone(Vmm vmm) =>
        new("guest-gone", $"the VMM (pid {vmm.Pid}) ended while its program was being replaced, and the guest with it", "start the VM again");
}
