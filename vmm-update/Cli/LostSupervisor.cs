using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>A supervisor that dies in an update is replaced by its guardian, which finishes the update or takes it back: what it made of it.</summary>
internal static class LostSupervisor
{
    /// <summary>How long a guardian may take to become a supervisor that holds the VM's lock.</summary>
    private static readonly TimeSpan Guardian = TimeSpan.FromSeconds(4);

    private static readonly TimeSpan Recovery = TimeSpan.FromSeconds(60);

    /// <summary>Waits for the new supervisor, and reads its report.</summary>
    /// <param name="directory">The VM.</param>
    /// <param name="before">When the update before this one began; no order of times is relied on, because clocks are set.</param>
    /// <param name="lost">How the supervisor was lost.</param>
    /// <exception cref="UpdateException">There is none: no supervisor came, or the update had not yet touched anything.</exception>
    public static async Task<UpdateReport> AwaitReportAsync(VmDirectory directory, DateTimeOffset? before, Exception lost)
    {
        var back = await IsBackAsync(directory);
        var report = (await UpdateHistory.ReadAsync(directory)).LastOrDefault();
        if (report is not null && report.Started != before && (back || report.Outcome == UpdateOutcome.Unknown))
            return report;
        if (!back)
        {
            throw directory.Exists
                ? new UpdateException(
                    "supervisor-lost", $"the supervisor of '{directory.Name}' went away during the update, and no other came: {lost.Message}",
                    $"`cprsharp adopt {directory.Name}` brings it back and finds the guest on whichever VMM it is; then see `cprsharp status {directory.Name}`", lost)
                {
                    LeavesStateUnknown = true,
                }
                : new UpdateException("guest-ended", $"the guest of '{directory.Name}' ended during the update: its supervisor has cleaned up and gone", "start the VM again", lost);
        }

        throw new UpdateException(
            "supervisor-lost", $"the supervisor of '{directory.Name}' was lost before the update had begun; another one has taken over, the guest was not touched", "try again", lost);
    }

    /// <summary>Whether a supervisor answers, or comes back soon.</summary>
    internal static async Task<bool> IsBackAsync(VmDirectory directory)
    {
        using var deadline = new CancellationTokenSource(Recovery);
        using var retry = new PeriodicTimer(TimeSpan.FromMilliseconds(50));
        var absent = TimeProvider.System.GetTimestamp();
        while (directory.Exists)
        {
            try
            {
                await using var vm = await VmConnection.OpenAsync(directory, deadline.Token);
                return true;
            }
            catch (UpdateException)
            {
                if (SupervisorLock.IsTaken(directory))
                    absent = TimeProvider.System.GetTimestamp();
                else if (TimeProvider.System.GetElapsedTime(absent) > Guardian)
                    return false;
            }
            catch (OperationCanceledException)
            {
                return false;
            }

            try
            {
                await retry.WaitForNextTickAsync(deadline.Token);
            }
            catch (OperationCanceledException)
            {
                return false;
            }
        }

        return false;
    }
}
