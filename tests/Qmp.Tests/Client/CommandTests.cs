using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.Qmp.Tests.Client;

public sealed class CommandTests
{
    [Fact]
    public async Task Replies_find_their_commands_in_any_order()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var first = vmm.Client.ExecuteAsync("a", new JsonObject { ["text"] = "ä\"\u2028" });
        var second = vmm.Client.ExecuteAsync("b");
        var received = await vmm.Wire.ReadAsync();
        Assert.Equal("ä\"\u2028", received.GetProperty("arguments").GetProperty("text").GetString());
        var idOfSecond = await vmm.ExpectAsync("b");

        await vmm.ReturnAsync(idOfSecond, "2");
        Assert.Equal(2, (await second.Soon()).GetInt32());
        Assert.False(first.IsCompleted);
        await vmm.ReturnAsync(received.GetProperty("id").GetInt64(), "1");
        Assert.Equal(1, (await first.Soon()).GetInt32());
    }

    [Fact]
    public async Task An_error_carries_command_class_and_text()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteAsync("device_del");
        var id = await vmm.ExpectAsync("device_del");
        await vmm.Wire.SendAsync($"{{\"id\": {id}, \"error\": {{\"class\": \"DeviceNotFound\", \"desc\": \"no 'x'\"}}}}\r\n");

        var error = await Assert.ThrowsAsync<QmpException>(() => call.Soon());

        Assert.Equal(("device_del", "DeviceNotFound", "no 'x'"), (error.Command, error.ErrorClass, error.Description));
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task Eight_in_band_commands_are_in_flight_and_out_of_band_overtakes_the_rest()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var calls = Enumerable.Range(0, 10).Select(i => vmm.Client.ExecuteAsync($"c{i}")).ToList();
        var ids = new List<long>();
        for (var i = 0; i < 8; i++) ids.Add(await vmm.ExpectAsync($"c{i}"));
        Assert.True(await vmm.Wire.IsSilentAsync());

        var urgent = vmm.Client.ExecuteAsync("urgent", options: new() { OutOfBand = true });
        await vmm.ReturnAsync(await vmm.ExpectAsync("urgent"));
        await urgent.Soon();

        await vmm.ReturnAsync(ids[0]);
        ids.Add(await vmm.ExpectAsync("c8"));
        await vmm.ReturnAsync(ids[1]);
        ids.Add(await vmm.ExpectAsync("c9"));
        foreach (var id in ids.Skip(2)) await vmm.ReturnAsync(id);
        await Task.WhenAll(calls).Soon();
    }

    [Fact]
    public async Task A_deadline_ends_the_wait_and_the_late_reply_is_dropped_and_counted()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteAsync("slow", options: new() { Timeout = TimeSpan.FromMilliseconds(50) });
        var id = await vmm.ExpectAsync("slow");

        var timeout = await Assert.ThrowsAsync<QmpTimeoutException>(() => call.Soon());
        Assert.True(timeout.WasSent);
        Assert.Equal("slow", timeout.Command);
        await vmm.ReturnAsync(id);
        await vmm.AssertUsableAsync();
        Assert.Equal(1, vmm.Client.DiscardedReplies);
    }

    [Fact]
    public async Task A_command_whose_turn_did_not_come_before_its_deadline_is_never_sent()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var busy = Enumerable.Range(0, 8).Select(_ => vmm.Client.ExecuteAsync("busy")).ToList();
        var ids = new List<long>();
        for (var i = 0; i < 8; i++) ids.Add(await vmm.ExpectAsync("busy"));
        using var cancel = new CancellationTokenSource();
        var cancelled = vmm.Client.ExecuteAsync("cancelled", ct: cancel.Token);
        var late = vmm.Client.ExecuteAsync("late", options: new() { Timeout = TimeSpan.FromMilliseconds(50) });
        var patient = vmm.Client.ExecuteAsync("patient");

        Assert.False((await Assert.ThrowsAsync<QmpTimeoutException>(() => late.Soon())).WasSent);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.Soon());
        foreach (var id in ids) await vmm.ReturnAsync(id);

        await vmm.ReturnAsync(await vmm.ExpectAsync("patient"));
        await patient.Soon();
        await Task.WhenAll(busy).Soon();
    }

    [Fact]
    public async Task The_clients_default_deadline_applies()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { CommandTimeout = TimeSpan.FromMilliseconds(50) });
        await Assert.ThrowsAsync<QmpTimeoutException>(() => vmm.Client.ExecuteAsync("slow").Soon());
    }

    [Fact]
    public async Task Cancellation_leaves_the_connection_usable()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var cancel = new CancellationTokenSource();
        var call = vmm.Client.ExecuteAsync("slow", ct: cancel.Token);
        var id = await vmm.ExpectAsync("slow");

        await cancel.CancelAsync();

        var cancelled = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call.Soon());
        Assert.Equal(cancel.Token, cancelled.CancellationToken);
        await vmm.ReturnAsync(id);
        await vmm.AssertUsableAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => vmm.Client.ExecuteAsync("never", ct: cancel.Token));
        Assert.True(await vmm.Wire.IsSilentAsync());
    }

    [Fact]
    public async Task A_raw_command_goes_out_and_its_reply_comes_back_byte_for_byte_except_the_id()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteRawAsync(Encoding.UTF8.GetBytes("""{ "x-new" : 1e2,"id": {"a": [1]} , "execute":"c", "arguments": {"b":"\u00e4"} }"""));
        var line = await vmm.Wire.ReadLineAsync();
        var id = JsonElement.Parse(line!).GetProperty("id").GetInt64();
        Assert.Equal($$"""{ "x-new" : 1e2,"id": {{id}} , "execute":"c", "arguments": {"b":"\u00e4"} }""", line);

        await vmm.Wire.SendAsync($"{{\"return\" : {{\"z\":1.50}},  \"id\":{id}, \"__com.example_y\": null }}\r\n");

        var reply = await call.Soon();
        Assert.Equal("""{"return" : {"z":1.50},  "id":{"a": [1]}, "__com.example_y": null }""", Encoding.UTF8.GetString(reply.WithId("""{"a": [1]}"""u8)));
        Assert.Equal("""{"return" : {"z":1.50}, "__com.example_y": null }""", Encoding.UTF8.GetString(reply.WithId([])));
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("{} {}")]
    [InlineData("nonsense")]
    [InlineData("")]
    [InlineData("""{"execute": "a", "id": 1, "id": 2}""")]
    [InlineData("""{"execute": "a", "execute": "b"}""")]
    public async Task A_raw_command_that_is_not_one_object_never_leaves(string text)
    {
        await using var vmm = await FakeVmm.StartAsync();
        await Assert.ThrowsAsync<FormatException>(() => vmm.Client.ExecuteRawAsync(Encoding.UTF8.GetBytes(text)));
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task Invalid_UTF8_never_leaves()
    {
        await using var vmm = await FakeVmm.StartAsync();
        await Assert.ThrowsAsync<FormatException>(() => vmm.Client.ExecuteRawAsync(Encoding.Latin1.GetBytes("""{"execute": "ä"}""")));
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task Without_connection_commands_say_so()
    {
        await using var client = new QmpClient();
        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => client.ExecuteAsync("query-status"));
        Assert.Equal(QmpConnectionFailure.NotConnected, cause.Failure);
        await client.Completion.Soon();
    }

    [Fact]
    public async Task Disconnect_from_the_continuation_of_a_reply_does_not_deadlock()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var worker = Task.Run(async () =>
        {
            await vmm.Client.ExecuteAsync("last");
            await vmm.Client.DisconnectAsync();
            return vmm.Client.State;
        });
        await vmm.ReturnAsync(await vmm.ExpectAsync("last"));

        Assert.Equal(QmpClientState.Idle, await worker.Soon());
        await vmm.Client.Completion.Soon();
        await FakeVmm.AssertReconnectsAsync(vmm.Client);
    }

    [Fact]
    public async Task A_client_may_connect_again_as_soon_as_a_command_failed()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteAsync("a");
        await vmm.ExpectAsync("a");
        vmm.Wire.Dispose();

        await Assert.ThrowsAsync<QmpConnectionException>(() => call.Soon());

        await FakeVmm.AssertReconnectsAsync(vmm.Client);
    }

    [Fact]
    public async Task Without_inline_continuations_code_may_block_on_another_reply()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { InlineContinuations = false });
        using var events = vmm.Client.Subscribe();
        var worker = Task.Run(async () =>
        {
            await vmm.Client.ExecuteAsync("a");
            vmm.Client.ExecuteAsync("b").Wait();
            await events.NextAsync();
            vmm.Client.ExecuteAsync("c").Wait();
        });
        await vmm.ReturnAsync(await vmm.ExpectAsync("a"));
        await vmm.ReturnAsync(await vmm.ExpectAsync("b"));
        await vmm.EventAsync("E");
        await vmm.ReturnAsync(await vmm.ExpectAsync("c"));
        await worker.Soon();
    }

    [Fact]
    public async Task A_command_can_be_freed_of_the_default_deadline_but_not_have_a_senseless_one()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { CommandTimeout = TimeSpan.FromMilliseconds(50) });
        var patient = vmm.Client.ExecuteAsync("patient", options: new() { Timeout = Timeout.InfiniteTimeSpan });
        var id = await vmm.ExpectAsync("patient");
        await Assert.ThrowsAsync<QmpTimeoutException>(() => vmm.Client.ExecuteAsync("hasty").Soon());
        await vmm.ExpectAsync("hasty");
        await vmm.ReturnAsync(id);
        await patient.Soon();
        foreach (var senseless in new[] { TimeSpan.Zero, TimeSpan.FromMilliseconds(-2), TimeSpan.FromDays(100) })
            await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => vmm.Client.ExecuteAsync("x", options: new() { Timeout = senseless }));
    }
}
