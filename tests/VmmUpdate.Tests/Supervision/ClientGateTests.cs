using CprSharp.VmmUpdate.Supervision;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

public sealed class ClientGateTests
{
    private readonly ClientGate _gate = new();

    [Fact]
    public async Task Changes_wait_while_they_are_held_and_queries_pass()
    {
        var hold = await _gate.HoldChangesAsync(CancellationToken.None);

        using (await _gate.EnterAsync(isChange: false, CancellationToken.None)) { }
        var change = _gate.EnterAsync(isChange: true, CancellationToken.None).AsTask();
        Assert.False(change.IsCompleted);
        hold.Dispose();

        (await change.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
    }

    [Fact]
    public async Task Holding_waits_for_the_changes_under_way()
    {
        var pass = await _gate.EnterAsync(isChange: true, CancellationToken.None);

        var holding = _gate.HoldChangesAsync(CancellationToken.None);
        Assert.False(holding.IsCompleted);
        pass.Dispose();

        (await holding.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
    }

    [Fact]
    public async Task A_cancelled_hold_holds_nothing()
    {
        using var pass = await _gate.EnterAsync(isChange: true, CancellationToken.None);
        using var cancelled = new CancellationTokenSource();
        var holding = _gate.HoldChangesAsync(cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => holding);

        using (await _gate.EnterAsync(isChange: true, CancellationToken.None)) { }
    }

    [Fact]
    public async Task In_the_pause_everything_waits()
    {
        _gate.HoldAll();
        var query = _gate.EnterAsync(isChange: false, CancellationToken.None).AsTask();
        Assert.False(query.IsCompleted);
        _gate.ReleaseAll();

        (await query.WaitAsync(TimeSpan.FromSeconds(5))).Dispose();
    }
}
