using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What follows a commit. The guest runs on the new VMM, and nothing here may undo that: what goes wrong becomes a finding.</summary>
internal sealed partial class Retirement(UpdateRun run)
{
    private readonly ILogger _logger = run.Logger;

    /// <summary>Takes all steps, also after one that failed.</summary>
    /// <param name="fresh">The VMM that runs the guest.</param>
    /// <param name="engine">Puts its migration settings back.</param>
    /// <param name="settle">What the guest waits for, first of all.</param>
    /// <param name="endOld">Ends what is left of the old VMM.</param>
    public async Task RunAsync(Vmm fresh, IEngine engine, Func<CancellationToken, Task> settle, Func<Task> endOld)
    {
        run.Clock.Enter(UpdatePhase.Retire);
        await NoteAsync("settle", settle);
        await NoteAsync("commit-end", token => run.Faults.HitAsync(FaultPoint.CommitEnd, token).AsTask());
        await NoteAsync("retire", token => run.Faults.HitAsync(FaultPoint.RetireBegin, token).AsTask());
        await NoteAsync("retire", _ => endOld());
        await NoteAsync("migration-settings", token => engine.RestoreAsync(fresh, token));
        await NoteAsync("after-commit", async token => run.Findings.AddRange(await run.Host.AfterCommitAsync(fresh, token)));
        await NoteAsync("retire", token => run.Faults.HitAsync(FaultPoint.RetireEnd, token).AsTask());
        await NoteAsync("record", _ =>
        {
            run.Host.SaveRecord();
            run.Host.SaveJournal(null);
            return Task.CompletedTask;
        });
    }

    private async Task NoteAsync(string id, Func<CancellationToken, Task> step)
    {
        // A deadline each: one step that hangs must not take the next ones with it.
        using var deadline = run.ReturnDeadline();
        try
        {
            await step(deadline.Token);
        }
        catch (Exception e)
        {
            LogTrouble(id, e);
            run.Findings.Add(Finding.Warn(id, run.Host.Directory.Name, $"the guest runs on the new VMM, but: {e.Message}", "see the supervisor's log"));
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "after the commit: {Step}")]
    private partial void LogTrouble(string step, Exception exception);
}
