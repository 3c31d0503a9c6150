using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What a VMM says about its migration (<c>query-migrate</c>, <c>qapi/migration.json</c>).</summary>
internal static class MigrationQuery
{
    /// <summary>A migration that ended badly resumes the guest by itself, a little after it reports its end.</summary>
    public static readonly TimeSpan SelfResume = TimeSpan.FromSeconds(1);

    /// <summary>How long to wait for an event before asking again.</summary>
    public static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);

    /// <summary>The <c>MigrationStatus</c>; <c>none</c> before the first migration.</summary>
    public static async Task<string> StatusAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        return migration.TryGetProperty("status", out var status) ? status.GetString()! : "none";
    }

    /// <summary>Why it failed, for a message. Never fails itself.</summary>
    public static async Task<string> ErrorAsync(Vmm vmm)
    {
        try
        {
            using var soon = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            var migration = await vmm.ExecuteAsync("query-migrate", soon.Token);
            return migration.TryGetProperty("error-desc", out var error) ? error.GetString() ?? "" : "no reason given";
        }
        catch (Exception e) when (e is QmpException or QmpConnectionException or OperationCanceledException or TimeoutException)
        {
            return $"no reason to be had ({e.Message})";
        }
    }

    /// <summary>Waits for the next event, at most <see cref="Look"/>: no event is an answer too, and the state is asked again.</summary>
    public static async Task NextEventAsync(QmpEventSubscription events, CancellationToken cancellationToken)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(Look);
        try
        {
            await events.NextAsync(soon.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // Nothing has happened.
        }
    }
}
