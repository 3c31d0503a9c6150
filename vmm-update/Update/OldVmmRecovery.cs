using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Brings the guest back to life on the VMM it came from.</summary>
internal static class OldVmmRecovery
{
    /// <summary>The code of the failure when there is no old VMM to go back to.</summary>
    public const string OldVmmEnded = "old-vmm-ended";

    /// <summary>Of a VMM that has sent the guest away whole. One that has let go of its devices cannot resume it.</summary>
    public const string SentAway = "postmigrate";

    /// <summary>Cancels what is left of the migration unless it is just completing, which QEMU decides, and waits for its end.</summary>
    /// <returns>The run state: <see cref="SentAway"/> if the migration was completed.</returns>
    public static async Task<string> EndMigrationAsync(Vmm old, CancellationToken cancellationToken)
    {
        await old.ReconnectAsync(cancellationToken);
        using var events = old.Qmp.Subscribe("MIGRATION", "RESUME");
        var cancelled = false;
        while (true)
        {
            var state = await old.QueryRunStateAsync(cancellationToken);
            switch (await MigrationQuery.StatusAsync(old, cancellationToken))
            {
                case "setup" or "active" or "device" or "pre-switchover" or "wait-unplug" when !cancelled:
                    await old.ExecuteAsync("migrate_cancel", cancellationToken);
                    cancelled = true;
                    break;
                case "setup" or "active" or "device" or "pre-switchover" or "wait-unplug" or "cancelling" or "failing":
                case "completed" when state == "finish-migrate":
                    await MigrationQuery.NextEventAsync(events, cancellationToken);
                    break;
                default:
                    return state;
            }
        }
    }

    /// <summary>Ends what is left of the migration, and resumes the guest if it ran before. The new VMM must be dead when this is called.</summary>
    /// <exception cref="UpdateException">The old VMM is gone or does not resume.</exception>
    public static async Task GiveGuestBackAsync(Vmm old, bool wasRunning, CancellationToken cancellationToken)
    {
        if (old.Exited.IsCompleted)
            throw new UpdateException(OldVmmEnded, $"the old VMM (pid {old.Pid}) has ended: {await old.Exited}; {old.LogTail()}", "start the VM again");

        var state = await EndMigrationAsync(old, cancellationToken);
        using var events = old.Qmp.Subscribe("MIGRATION", "RESUME");
        for (var waited = TimeSpan.Zero; state != "running" && wasRunning; state = await old.QueryRunStateAsync(cancellationToken))
        {
            if (state != SentAway && waited < MigrationQuery.SelfResume)
            {
                waited += MigrationQuery.Look;
                await MigrationQuery.NextEventAsync(events, cancellationToken);
            }
            else
            {
                await old.ExecuteAsync("cont", cancellationToken);
            }
        }
    }
}
