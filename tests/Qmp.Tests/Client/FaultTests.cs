using System.Text;

namespace CprSharp.Qmp.Tests.Client;

/// <summary>What a peer can do wrong after negotiation, and what comes of it.</summary>
public sealed class FaultTests
{
    [Theory]
    [InlineData("garbage\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"return\": }\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"return\": {}]\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{'return': {}, 'id': 1}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"return\": \"a\nb\", \"id\": 1}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"hello\": 1}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("[]\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("\u0001", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"event\": 5}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"event\": \"\\ud800\"}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"return\": {}}\r\n", QmpConnectionFailure.InvalidMessage)]
    [InlineData(FakeVmm.Greeting, QmpConnectionFailure.InvalidMessage)]
    [InlineData("{\"error\": {\"class\": \"GenericError\", \"desc\": \"?\"}}\r\n", QmpConnectionFailure.UnassignableError)]
    public async Task Wrong_input_ends_the_connection(string text, QmpConnectionFailure expected)
    {
        await using var vmm = await FakeVmm.StartAsync();
        await vmm.Wire.SendAsync(text);
        await vmm.AssertEndedAsync(expected);
    }

    [Fact]
    public async Task Invalid_UTF8_ends_the_connection()
    {
        await using var vmm = await FakeVmm.StartAsync();
        await vmm.Wire.SendAsync([.. "{\"event\": \""u8, 0xC3, .. "\"}"u8]);
        await vmm.AssertEndedAsync(QmpConnectionFailure.InvalidMessage);
    }

    [Fact]
    public async Task An_oversize_message_ends_the_connection_before_it_is_all_there()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { MaxMessageBytes = 1024 });
        await vmm.Wire.SendAsync("{\"event\": \"" + new string('x', 2000));
        await vmm.AssertEndedAsync(QmpConnectionFailure.OversizeMessage);
    }

    [Fact]
    public async Task A_message_of_exactly_the_limit_is_taken()
    {
        await using var vmm = await FakeVmm.StartAsync(new QmpClientOptions { MaxMessageBytes = 1024 });
        var call = vmm.Client.ExecuteAsync("a");
        var id = await vmm.ExpectAsync("a");
        var frame = $"{{\"return\": \"\", \"id\": {id}}}";
        await vmm.ReturnAsync(id, '"' + new string('x', 1024 - frame.Length) + '"');
        Assert.Equal(1024 - frame.Length, (await call.Soon()).GetString()!.Length);
    }

    [Theory]
    [InlineData(1023, true)]
    [InlineData(1024, false)]
    public async Task Nesting_is_limited_as_in_QEMU(int depth, bool taken)
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteAsync("a");
        await vmm.ReturnAsync(await vmm.ExpectAsync("a"), new string('[', depth) + new string(']', depth));
        if (taken)
        {
            await call.Soon();
            return;
        }

        await Assert.ThrowsAsync<QmpConnectionException>(() => call.Soon());
        await vmm.AssertEndedAsync(QmpConnectionFailure.OversizeMessage);
    }

    [Fact]
    public async Task The_end_inside_a_message_fails_commands_and_subscriptions_with_the_cause()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        var call = vmm.Client.ExecuteAsync("a");
        await vmm.ExpectAsync("a");
        await vmm.EventAsync("LAST");
        await vmm.Wire.SendAsync("{\"return\": {\"x\"");
        vmm.Wire.Dispose();

        Assert.Equal(QmpConnectionFailure.TruncatedMessage, (await Assert.ThrowsAsync<QmpConnectionException>(() => call.Soon())).Failure);
        Assert.Equal("LAST", (await events.NextAsync().Soon()).Name);
        Assert.Equal(QmpConnectionFailure.TruncatedMessage, (await Assert.ThrowsAsync<QmpConnectionException>(() => events.NextAsync().Soon())).Failure);
        await vmm.AssertEndedAsync(QmpConnectionFailure.TruncatedMessage);
    }

    [Fact]
    public async Task The_end_between_messages()
    {
        await using var vmm = await FakeVmm.StartAsync();
        vmm.Wire.Dispose();
        await vmm.AssertEndedAsync(QmpConnectionFailure.EndOfStream);
    }

    [Theory]
    [InlineData("{\"return\": {}, \"id\": 4711}\r\n")]
    [InlineData("{\"return\": {}, \"id\": \"text\"}\r\n")]
    [InlineData("{\"return\": {}, \"id\": 1.5}\r\n")]
    [InlineData("{\"error\": {\"class\": \"GenericError\", \"desc\": \"?\"}, \"id\": null}\r\n")]
    public async Task A_reply_with_an_unknown_id_is_dropped_and_counted(string text)
    {
        await using var vmm = await FakeVmm.StartAsync();
        await vmm.Wire.SendAsync(text);
        await vmm.AssertUsableAsync();
        Assert.Equal(1, vmm.Client.DiscardedReplies);
    }

    [Fact]
    public async Task An_error_without_id_belongs_to_the_oldest_command()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var first = vmm.Client.ExecuteAsync("first");
        var second = vmm.Client.ExecuteAsync("second");
        await vmm.ExpectAsync("first");
        var id = await vmm.ExpectAsync("second");
        await vmm.Wire.SendAsync("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n");
        await vmm.ReturnAsync(id);

        Assert.Equal("first", (await Assert.ThrowsAsync<QmpException>(() => first.Soon())).Command);
        await second.Soon();
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task An_error_without_id_while_out_of_band_is_under_way_could_belong_to_either()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var calls = new[] { vmm.Client.ExecuteAsync("a"), vmm.Client.ExecuteAsync("b", options: new() { OutOfBand = true }) };
        await vmm.ExpectAsync("a");
        await vmm.ExpectAsync("b");
        await vmm.Wire.SendAsync("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n");

        foreach (var call in calls)
            Assert.Equal(QmpConnectionFailure.UnassignableError, (await Assert.ThrowsAsync<QmpConnectionException>(() => call.Soon())).Failure);
        await vmm.AssertEndedAsync(QmpConnectionFailure.UnassignableError);
    }

    [Fact]
    public async Task An_error_of_another_shape_is_still_an_error()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var call = vmm.Client.ExecuteAsync("a");
        await vmm.Wire.SendAsync($"{{\"error\": \"what\", \"id\": {await vmm.ExpectAsync("a")}}}\r\n");
        Assert.Equal(QmpErrorClass.GenericError, (await Assert.ThrowsAsync<QmpException>(() => call.Soon())).ErrorClass);
    }

    [Fact]
    public async Task Messages_byte_by_byte_and_several_in_one_packet()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        var calls = new[] { vmm.Client.ExecuteAsync("a"), vmm.Client.ExecuteAsync("b") };
        var (a, b) = (await vmm.ExpectAsync("a"), await vmm.ExpectAsync("b"));
        const string Event = "{\"event\": \"X\", \"data\": {\"text\": \"}{\\\"\\\\\"}, \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}";

        await vmm.Wire.SendOneByOneAsync($"{Event}\r\n{{\"return\":\n {{\"v\": \"]\\\\\"}},\r\n \"id\": {a}}}");
        await vmm.Wire.SendAsync($"{Event}{Event} {{\"id\": {b}, \"return\": []}}");

        Assert.Equal("]\\", (await calls[0].Soon()).GetProperty("v").GetString());
        await calls[1].Soon();
        for (var i = 0; i < 3; i++)
        {
            var e = await events.NextAsync().Soon();
            Assert.Equal(("X", -1L, "}{\"\\"), (e.Name, e.TimestampMicroseconds, e.Data.GetProperty("text").GetString()));
            Assert.Null(e.Timestamp);
            Assert.Equal(Event, Encoding.UTF8.GetString(e.RawUtf8.Span));
        }
    }

    [Fact]
    public async Task A_peer_that_stops_reading_fails_the_command_and_can_still_be_heard()
    {
        await using var vmm = await FakeVmm.StartAsync();
        using var events = vmm.Client.Subscribe();
        vmm.Wire.Socket.Shutdown(System.Net.Sockets.SocketShutdown.Receive);

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => vmm.Client.ExecuteAsync("a").Soon());

        Assert.Equal(QmpConnectionFailure.Io, cause.Failure);
        await vmm.EventAsync("STILL_HERE");
        Assert.Equal("STILL_HERE", (await events.NextAsync().Soon()).Name);
    }
}
