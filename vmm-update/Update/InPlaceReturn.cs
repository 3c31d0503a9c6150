using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Calls off the replacement of a VMM's program, if it is not too late.</summary>
internal static class InPlaceReturn
{
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
                switch (await MigrationQuery.StatusAsync(vmm, cancellationToken))
                {
                    case "setup" or "active" or "device" or "pre-switchover" when !cancelled:
                        await vmm.ExecuteAsync("migrate_cancel", cancellationToken);
                        cancelled = true;
                        break;
                    case "setup" or "active" or "device" or "pre-switchover" or "cancelling" or "failing":
                        await MigrationQuery.NextEventAsync(events, cancellationToken);
                        break;
                    case var _ when state == "running" || (state == "paused" && !wasRunning):
                        return true;
                    case "failed" or "cancelled" when !wasRunning:
                        return true;
                    case "failed" or "cancelled" when resumesBySelf >= MigrationQuery.SelfResume:
                        await vmm.ExecuteAsync("cont", cancellationToken);
                        break;
                    case "failed" or "cancelled":
                        resumesBySelf += MigrationQuery.Look;
                        await MigrationQuery.NextEventAsync(events, cancellationToken);
                        break;
                    default:
                        await MigrationQuery.NextEventAsync(events, cancellationToken);
                        break;
                }
            }
        }
        catch (Exception e) when (e is QmpConnectionException or ObjectDisposedException)
        {
            return false; // exec has closed its end
        }
    }
}
