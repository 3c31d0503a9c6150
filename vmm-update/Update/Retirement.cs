using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What follows a commit. The guest runs on the new VMM, and nothing here may undo that: what goes wrong becomes a finding.</summary>
internal sealed partial class Retirement(IVmHost host, UpdateOptions options, PhaseClock clock, List<Finding> findings, FaultPlan faults, ILogger logger)
{
    /// <summary>Takes all steps, also after one that failed.</summary>
    /// <param name="fresh">The VMM that runs the guest.</param>
    /// <param name="engine">Puts its migration settings back.</param>
    /// <param name="settle">What the guest waits for, first of all.</param>
    /// <param name="endOld">Ends what is left of the old VMM.</param>
    public async Task RunAsync(Vmm fresh, IEngine engine, Func<CancellationToken, Task> settle, Func<Task> endOld)
    {
        clock.Enter(UpdatePhase.Retire);
        await NoteAsync("settle", settle);
        await NoteAsync("commit-end", token => faults.HitAsync(FaultPoint.CommitEnd, token).AsTask());
        await NoteAsync("retire", token => faults.HitAsync(FaultPoint.RetireBegin, token).AsTask());
        await NoteAsync("retire", _ => endOld());
        await NoteAsync("migration-settings", token => engine.RestoreAsync(fresh, token));
        await NoteAsync("after-commit", async token => findings.AddRange(await host.AfterCommitAsync(fresh, token)));
        await NoteAsync("retire", token => faults.HitAsync(FaultPoint.RetireEnd, token).AsTask());
        await NoteAsync("record", _ =>
        {
            host.SaveRecord();
            host.SaveJournal(null);
            return Task.CompletedTask;
        });
    }

    private async Task NoteAsync(string id, Func<CancellationToken, Task> step)
    {
        // A deadline each: one step that hangs must not take the next ones with it.
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(options.RollbackDeadlineSeconds));
        try
        {
            await step(deadline.Token);
        }
        catch (Exception e)
        {
            LogTrouble(id, e);
            findings.Add(Finding.Warn(id, host.Directory.Name, $"the guest runs on the new VMM, but: {e.Message}", "see the supervisor's log"));
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "after the commit: {Step}")]
    private partial void LogTrouble(string step, Exception exception);
}
