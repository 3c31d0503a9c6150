using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Brings the guest back to life on the VMM it came from.</summary>
internal static class OldVmmRecovery
{
    /// <summary>Ends what is left of the migration, and resumes the guest if it ran before.</summary>
    /// <exception cref="UpdateException">The old VMM is gone or does not resume.</exception>
    public static async Task GiveGuestBackAsync(Vmm old, SwitchoverWatch watch, bool wasRunning, CancellationToken cancellationToken)
    {
        if (old.Exited.IsCompleted)
            throw new UpdateException("old-vmm-ended", $"the old VMM (pid {old.Pid}) has ended: {await old.Exited}; {old.LogTail()}", "start the VM again");

        await ReconnectAsync(old, cancellationToken);
        var status = await MigrationStatusAsync(old, cancellationToken);
        if (status is "setup" or "active" or "device" or "pre-switchover" or "wait-unplug" or "cancelling")
        {
            await old.ExecuteAsync("migrate_cancel", cancellationToken);
            while ((status = await MigrationStatusAsync(old, cancellationToken)) is not ("cancelled" or "failed" or "completed" or "none"))
                await ((Task)watch.OldFinished.WaitAsync(TimeSpan.FromMilliseconds(5), cancellationToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (!wasRunning)
            return;

        // A failed or cancelled migration resumes the guest by itself, a little after it reports its end.
        using var resumed = old.Qmp.Subscribe("RESUME");
        if (await old.QueryRunStateAsync(cancellationToken) == "running")
            return;

        if (status == "completed")
        {
            await old.ExecuteAsync("cont", cancellationToken);
        }
        else
        {
            using var grace = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            grace.CancelAfter(TimeSpan.FromSeconds(2));
            try
            {
                await resumed.NextAsync(_ => true, grace.Token);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                await old.ExecuteAsync("cont", cancellationToken);
            }
        }

        var state = await old.QueryRunStateAsync(cancellationToken);
        if (state != "running")
            throw new UpdateException("old-vmm-not-running", $"the old VMM (pid {old.Pid}) is '{state}' after cont", "look at its monitor and log");
    }

    private static async Task ReconnectAsync(Vmm old, CancellationToken cancellationToken)
    {
        if (old.Qmp.State == QmpClientState.Running)
            return;

        await old.Qmp.DisconnectAsync();
        await old.Qmp.ConnectAsync(old.QmpPath, cancellationToken);
    }

    private static async Task<string> MigrationStatusAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        return migration.TryGetProperty("status", out var status) ? status.GetString()! : "none";
    }
}
