using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Calls off the replacement of a VMM's program, if it is not too late.</summary>
internal static class InPlaceReturn
{
    /// <summary>A migration that ended badly resumes the guest by itself, a little after it reports its end.</summary>
    private static readonly TimeSpan SelfResume = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    /// <summary>Waits until the old program has the guest again, or is gone.</summary>
    /// <returns>Whether the old program has it.</returns>
    /// <remarks>Once it reports completion it is about to exec, and must not be continued: the state that it saved would no longer be the guest's.</remarks>
    public static async Task<bool> CallOffAsync(Vmm vmm, bool wasRunning, CancellationToken cancellationToken)
    {
        try
        {
            using var events = vmm.Qmp.Subscribe("MIGRATION", "RESUME");
            var cancelled = false;
            var resumesBySelf = TimeSpan.Zero;
            while (true)
            {
                var state = await vmm.QueryRunStateAsync(cancellationToken);
                switch (await StatusAsync(vmm, cancellationToken))
                {
                    case "setup" or "active" or "device" or "pre-switchover" when !cancelled:
                        await vmm.ExecuteAsync("migrate_cancel", cancellationToken);
                        cancelled = true;
                        break;
                    case "setup" or "active" or "device" or "pre-switchover" or "cancelling" or "failing":
                        await NextAsync(events, cancellationToken);
                        break;
                    case var _ when state == "running" || (state == "paused" && !wasRunning):
                        return true;
                    case "failed" or "cancelled" when !wasRunning:
                        return true;
                    case "failed" or "cancelled" when resumesBySelf >= SelfResume:
                        await vmm.ExecuteAsync("cont", cancellationToken);
                        break;
                    case "failed" or "cancelled":
                        resumesBySelf += Look;
                        await NextAsync(events, cancellationToken);
                        break;
                    default:
                        await NextAsync(events, cancellationToken);
                        break;
                }
            }
        }
        catch (Exception e) when (e is QmpConnectionException or ObjectDisposedException)
        {
            return false; // exec has closed its end
        }
    }

    private static async Task<string> StatusAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        return migration.TryGetProperty("status", out var status) ? status.GetString()! : "none";
    }

    private static async Task NextAsync(QmpEventSubscription events, CancellationToken cancellationToken)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(Look);
        try
        {
            await events.NextAsync(soon.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // No event is an answer too: the state is asked again.
        }
    }
}
