using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Brings the guest back to life on the VMM it came from.</summary>
internal static class OldVmmRecovery
{
    /// <summary>The code of the failure when there is no old VMM to go back to.</summary>
    public const string OldVmmEnded = "old-vmm-ended";

    /// <summary>A migration that ended badly resumes the guest by itself, a little after it reports its end.</summary>
    private static readonly TimeSpan SelfResume = TimeSpan.FromSeconds(1);

    /// <summary>Ends what is left of the migration, and resumes the guest if it ran before. The new VMM must be dead when this is called.</summary>
    /// <exception cref="UpdateException">The old VMM is gone or does not resume.</exception>
    public static async Task GiveGuestBackAsync(Vmm old, bool wasRunning, CancellationToken cancellationToken)
    {
        if (old.Exited.IsCompleted)
            throw new UpdateException(OldVmmEnded, $"the old VMM (pid {old.Pid}) has ended: {await old.Exited}; {old.LogTail()}", "start the VM again");

        await old.ReconnectAsync(cancellationToken);
        using var events = old.Qmp.Subscribe("MIGRATION", "RESUME");
        var cancelled = false;
        var resumesBySelf = TimeSpan.Zero;
        while (true)
        {
            var state = await old.QueryRunStateAsync(cancellationToken);
            var migration = await MigrationStatusAsync(old, cancellationToken);
            switch (migration)
            {
                case "setup" or "active" or "device" or "pre-switchover" or "wait-unplug" when !cancelled:
                    await old.ExecuteAsync("migrate_cancel", cancellationToken);
                    cancelled = true;
                    break;
                case "setup" or "active" or "device" or "pre-switchover" or "wait-unplug" or "cancelling" or "failing":
                    await NextEventAsync(events, TimeSpan.FromMilliseconds(20), cancellationToken);
                    break;
                case var _ when state == "running" || !wasRunning:
                    return;
                case "completed":
                    await old.ExecuteAsync("cont", cancellationToken);
                    break;
                default:
                    if (resumesBySelf < SelfResume)
                    {
                        resumesBySelf += TimeSpan.FromMilliseconds(20);
                        await NextEventAsync(events, TimeSpan.FromMilliseconds(20), cancellationToken);
                    }
                    else
                    {
                        await old.ExecuteAsync("cont", cancellationToken);
                    }

                    break;
            }
        }
    }

    private static async Task NextEventAsync(QmpEventSubscription events, TimeSpan longest, CancellationToken cancellationToken)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(longest);
        try
        {
            await events.NextAsync(soon.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // No event is an answer too: the state is asked again.
        }
    }

    private static async Task<string> MigrationStatusAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        return migration.TryGetProperty("status", out var status) ? status.GetString()! : "none";
    }
}
