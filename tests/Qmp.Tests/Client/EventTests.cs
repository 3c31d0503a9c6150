namespace CprSharp.Qmp.Tests.Client;

public sealed class EventTests
{
    [Fact]
    public async Task Each_subscription_sees_all_it_asked_for_in_order()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var all = vmm.Client.Subscribe();
        using var some = vmm.Client.Subscribe("B", "C");
        string[] names = ["A", "B", "A", "C", "B"];
        for (var i = 0; i < names.Length; i++) await vmm.EventAsync(names[i], i);
        await vmm.AssertUsableAsync();

        for (var i = 0; i < names.Length; i++)
        {
            var e = await all.NextAsync().Soon();
            Assert.Equal((names[i], 10_000_000L + i, i), (e.Name, e.TimestampMicroseconds, e.Data.GetProperty("n").GetInt32()));
        }

        foreach (var n in new[] { 1, 3, 4 }) Assert.Equal(n, (await some.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
    }

    [Fact]
    public async Task Waiting_for_a_match_passes_over_the_others()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        var wait = events.NextAsync(e => e.Name == "MIGRATION" && e.Data.GetProperty("n").GetInt32() == 2);
        for (var i = 0; i < 4; i++) await vmm.EventAsync("MIGRATION", i);
        Assert.Equal(2, (await wait.Soon()).Data.GetProperty("n").GetInt32());
        Assert.Equal(3, (await events.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
    }

    [Fact]
    public async Task Finishing_delivers_all_that_was_sent_before_and_then_ends()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        for (var i = 0; i < 100; i++) await vmm.EventAsync("E", i);

        await vmm.Client.FinishReadingAsync().Soon();

        for (var i = 0; i < 100; i++) Assert.Equal(i, (await events.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
        await Assert.ThrowsAsync<QmpConnectionException>(() => events.NextAsync().Soon());
        await vmm.AssertEndedAsync(QmpConnectionFailure.EndOfStream);
    }

    [Fact]
    public async Task A_subscription_made_while_idle_survives_failed_attempts_and_sees_the_first_event()
    {
        await using var client = new QmpClient();
        using var events = client.Subscribe();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        wire.Dispose();
        await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());

        await using var vmm = await FakeVmm.StartAsync(client: client);
        await vmm.EventAsync("FIRST");

        Assert.Equal("FIRST", (await events.NextAsync().Soon()).Name);
    }

    [Fact]
    public async Task A_reader_that_lags_is_told_how_much_it_missed_and_others_miss_nothing()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { EventBufferLimit = 3 });
        using var lagging = vmm.Client.Subscribe();
        using var reading = vmm.Client.Subscribe();
        for (var i = 0; i < 10; i++)
        {
            await vmm.EventAsync("E", i);
            Assert.Equal(i, (await reading.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
        }

        for (var i = 0; i < 3; i++) Assert.Equal(i, (await lagging.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
        var gap = await Assert.ThrowsAsync<QmpEventsMissedException>(() => lagging.NextAsync().Soon());
        Assert.Equal(7, gap.Missed);
        await vmm.EventAsync("E", 10);
        Assert.Equal(10, (await reading.NextAsync().Soon()).Data.GetProperty("n").GetInt32());
    }

    [Fact]
    public async Task Enumeration_ends_quietly_when_this_side_disconnects()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        await vmm.EventAsync("A");
        await vmm.EventAsync("B");
        await vmm.AssertUsableAsync();
        await vmm.Client.DisconnectAsync().Soon();

        var seen = new List<string>();
        await foreach (var e in events) seen.Add(e.Name);

        Assert.Equal(["A", "B"], seen);
        var end = await Assert.ThrowsAsync<QmpConnectionException>(() => events.NextAsync().Soon());
        Assert.Equal(QmpConnectionFailure.Disconnected, end.Failure);
        await vmm.Client.Completion.Soon();
    }

    [Fact]
    public async Task A_disposed_subscription_ends_its_reader()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var events = vmm.Client.Subscribe();
        var reader = Task.Run(async () =>
        {
            var count = 0;
            await foreach (var _ in events) count++;
            return count;
        });
        await vmm.EventAsync("A");
        await vmm.AssertUsableAsync();
        events.Dispose();
        Assert.Equal(1, await reader.Soon());
        await vmm.EventAsync("B");
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task Waiting_can_be_cancelled_and_taken_up_again()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        using var cancel = new CancellationTokenSource();
        var wait = events.NextAsync(cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait.Soon());
        await vmm.EventAsync("A");
        Assert.Equal("A", (await events.NextAsync().Soon()).Name);
    }

    [Fact]
    public async Task A_reply_is_not_seen_before_the_event_that_came_ahead_of_it()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        for (var i = 0; i < 100; i++)
        {
            var call = vmm.Client.ExecuteAsync("stop");
            var id = await vmm.ExpectAsync("stop");
            await vmm.EventAsync("STOP", i);
            await vmm.ReturnAsync(id);
            await call.Soon();
            var next = events.NextAsync();
            Assert.True(next.IsCompleted);
            Assert.Equal(i, (await next).Data.GetProperty("n").GetInt32());
        }
    }
}
