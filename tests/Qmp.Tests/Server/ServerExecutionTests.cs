using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.Qmp.Tests.Server;

public sealed class ServerExecutionTests
{
    [Fact]
    public async Task In_band_is_answered_in_order_and_out_of_band_overtakes()
    {
        var gate = new TaskCompletionSource();
        await using var server = new TestServer(async (c, _) =>
        {
            if (!c.OutOfBand) await gate.Task;
            return await TestServer.EchoAsync(c, default);
        });
        using var wire = await server.ConnectNegotiatedAsync(outOfBand: true);
        for (var i = 0; i < 8; i++) await wire.SendAsync($"{{\"execute\": \"in{i}\"}}");

        await wire.SendAsync("{\"exec-oob\": \"out\"}");

        await ServerProtocolTests.ReturnOf(wire, "out");
        gate.SetResult();
        for (var i = 0; i < 8; i++) await ServerProtocolTests.ReturnOf(wire, $"in{i}");
    }

    [Fact]
    public async Task In_band_commands_of_one_connection_never_run_at_once_and_of_two_do()
    {
        var running = 0;
        var both = new TaskCompletionSource();
        var most = new ConcurrentDictionary<QmpServerConnection, int>();
        await using var server = new TestServer(async (c, _) =>
        {
            Assert.Equal(1, most.AddOrUpdate(c.Connection, 1, (_, n) => n + 1));
            if (Interlocked.Increment(ref running) == 2) both.SetResult();
            await both.Task.Soon();
            most.AddOrUpdate(c.Connection, 0, (_, n) => n - 1);
            return QmpReply.Success();
        });
        using var first = await server.ConnectNegotiatedAsync(outOfBand: true);
        using var second = await server.ConnectNegotiatedAsync();
        foreach (var wire in new[] { first, second }) await wire.SendAsync("{\"execute\": \"a\"}{\"execute\": \"b\"}{\"execute\": \"c\"}");
        foreach (var wire in new[] { first, second })
        {
            for (var i = 0; i < 3; i++) Assert.Equal("{\"return\":{}}", await wire.ReadLineAsync());
        }

        Assert.Empty(server.Failures);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_finishes_first_answers_what_was_sent(bool outOfBand)
    {
        var gate = new TaskCompletionSource();
        await using var server = new TestServer(async (c, _) =>
        {
            await gate.Task;
            return await TestServer.EchoAsync(c, default);
        });
        using var wire = await server.ConnectNegotiatedAsync(outOfBand);
        await wire.SendAsync("{\"execute\": \"a\"}{\"execute\": \"b\"}{\"execute\": \"c\"}");

        var finishing = server.Server.FinishAsync(CancellationToken.None);
        Assert.False(finishing.IsCompleted);
        gate.SetResult();
        foreach (var name in new[] { "a", "b", "c" }) await ServerProtocolTests.ReturnOf(wire, name);
        await finishing.Soon();
        Assert.Equal(QmpConnectionFailure.EndOfStream, (await server.NextEndAsync()).Failure);
        Assert.Empty(server.Server.Connections);
    }

    [Fact]
    public async Task The_wait_for_a_client_that_is_not_answered_can_be_given_up()
    {
        await using var server = new TestServer(async (_, ct) =>
        {
            await Task.Delay(Timeout.Infinite, ct);
            return QmpReply.Success();
        });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"a\"}");

        using var patience = new CancellationTokenSource(100);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => server.Server.FinishAsync(patience.Token).Soon());
        await server.Server.DisposeAsync().AsTask().Soon();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Reading_stops_when_the_queue_is_full(bool outOfBand)
    {
        var gate = new TaskCompletionSource();
        await using var server = new TestServer(async (c, _) =>
        {
            await gate.Task;
            return QmpReply.Success();
        });
        using var wire = await server.ConnectNegotiatedAsync(outOfBand);
        var command = "{\"execute\": \"a\", \"arguments\": {\"x\": \"" + new string('x', 60_000) + "\"}}\r\n";
        var sending = wire.SendAsync(string.Concat(Enumerable.Repeat(command, 100)));

        Assert.NotEqual(sending, await Task.WhenAny(sending, Task.Delay(300)));
        gate.SetResult();

        await sending.Soon();
        for (var i = 0; i < 100; i++) Assert.Equal("{\"return\":{}}", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task A_handlers_exceptions_reach_the_client()
    {
        await using var server = new TestServer((c, _) => c.Name switch
        {
            "known" => throw new QmpException(c.Name, QmpErrorClass.DeviceNotFound, "no such"),
            "node" => ValueTask.FromResult(QmpReply.Success(new JsonObject { ["a"] = 1 })),
            "returned" => ValueTask.FromResult(QmpReply.Error("KVMMissingCap", "say \"ä\"")),
            _ => throw new InvalidOperationException("bug"),
        });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("""{"execute": "known", "id": 1} {"execute": "returned", "id": 2} {"execute": "bad", "id": 3} {"execute": "node"}""");
        ServerProtocolTests.AssertError(await wire.ReadAsync(), "DeviceNotFound", "no such", "1");
        ServerProtocolTests.AssertError(await wire.ReadAsync(), "KVMMissingCap", "say \"ä\"", "2");
        ServerProtocolTests.AssertError(await wire.ReadAsync(), "GenericError", "bug", "3");
        Assert.Equal("{\"return\":{\"a\":1}}", await wire.ReadLineAsync());
        Assert.Equal("bug", Assert.Single(server.Failures).Message);
    }

    [Fact]
    public async Task Output_is_ASCII()
    {
        await using var server = new TestServer((c, _) => ValueTask.FromResult(QmpReply.Success(JsonElement.Parse("\"äöü€\""))));
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"a\"}");
        var line = await wire.ReadLineAsync();
        Assert.All(line!, c => Assert.InRange(c, '\x20', '\x7e'));
        Assert.Equal("äöü€", JsonElement.Parse(line!).GetProperty("return").GetString());
    }

    [Fact]
    public async Task Events_go_to_all_who_negotiated_and_in_order_with_replies()
    {
        TestServer server = null!;
        await using var _ = server = new TestServer(async (c, ct) =>
        {
            await server.Server.BroadcastAsync(new QmpEvent("BEFORE", JsonElement.Parse("{\"x\": 1}"), 1_000_002), ct);
            return QmpReply.Success();
        });
        using var first = await server.ConnectNegotiatedAsync();
        using var second = await server.ConnectNegotiatedAsync(outOfBand: true);
        using var unready = await server.ConnectAsync();
        await unready.ReadLineAsync();

        await first.SendAsync("{\"execute\": \"a\"}");

        const string Event = """{"timestamp":{"seconds":1,"microseconds":2},"event":"BEFORE","data":{"x":1}}""";
        Assert.Equal(Event, await first.ReadLineAsync());
        Assert.Equal("{\"return\":{}}", await first.ReadLineAsync());
        Assert.Equal(Event, await second.ReadLineAsync());
        Assert.True(await unready.IsSilentAsync());
        Assert.Equal(3, server.Server.Connections.Count);
    }

    [Fact]
    public async Task A_client_that_has_the_answer_to_its_negotiation_misses_no_event()
    {
        await using var server = TestServer.Echo();
        for (var i = 0; i < 300; i++)
        {
            using var wire = await server.ConnectNegotiatedAsync();
            await server.Server.BroadcastAsync(new QmpEvent("NOW", default, i));
            Assert.Equal("NOW", (await wire.ReadAsync()).GetProperty("event").GetString());
        }
    }

    [Fact]
    public async Task An_event_with_its_own_text_goes_out_as_that_text()
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectNegotiatedAsync();
        await server.Server.BroadcastAsync(new QmpEvent("X", default, -1) { RawUtf8 = "{\"event\":\r\n  \"X\",\"other\":1.0}"u8.ToArray() });
        Assert.Equal("{\"event\":    \"X\",\"other\":1.0}", await wire.ReadLineAsync());
        await server.Server.BroadcastAsync(new QmpEvent("Y", default, -1));
        Assert.Equal("{\"timestamp\":{\"seconds\":-1,\"microseconds\":-1},\"event\":\"Y\"}", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task A_client_that_does_not_read_is_dropped_and_the_others_get_everything()
    {
        await using var server = TestServer.Echo(o => o with { MaxQueuedOutputBytes = 100_000 });
        using var lazy = await server.ConnectNegotiatedAsync();
        using var busy = await server.ConnectNegotiatedAsync();
        var data = JsonElement.Parse($"{{\"x\": \"{new string('x', 10_000)}\"}}");
        for (var i = 0; i < 200; i++)
        {
            await server.Server.BroadcastAsync(new QmpEvent($"E{i}", data, 1));
            Assert.Equal($"E{i}", (await busy.ReadAsync()).GetProperty("event").GetString());
        }

        Assert.Equal(QmpConnectionFailure.OutputOverflow, (await server.NextEndAsync()).Failure);
        Assert.Single(server.Server.Connections);
    }

    [Fact]
    public async Task The_peer_is_known()
    {
        QmpPeerCredentials? peer = null;
        await using var server = new TestServer((c, _) =>
        {
            peer = c.Connection.Peer;
            return ValueTask.FromResult(QmpReply.Success());
        });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"a\"}");
        await wire.ReadLineAsync();
        var status = await File.ReadAllLinesAsync("/proc/self/status");
        string Field(string name) => status.First(l => l.StartsWith(name, StringComparison.Ordinal)).Split('\t')[2];
        Assert.Equal(new QmpPeerCredentials(Environment.ProcessId, uint.Parse(Field("Uid:")), uint.Parse(Field("Gid:"))), peer);
    }

    [Fact]
    public async Task A_peer_can_be_refused()
    {
        await using var server = TestServer.Echo(o => o with { Authorize = p => p is not { ProcessId: > 0 } });
        using var wire = await server.ConnectAsync();
        Assert.Null(await wire.ReadLineAsync());
        Assert.Equal(QmpConnectionFailure.NotAuthorized, (await server.NextEndAsync()).Failure);
    }

    [Fact]
    public async Task A_greeting_that_cannot_be_had_ends_one_connection_and_not_the_server()
    {
        var broken = true;
        await using var server = TestServer.Echo(o => o with { Greeting = () => broken ? throw new InvalidOperationException("no VMM") : TestServer.DefaultGreeting });
        using var wire = await server.ConnectAsync();
        Assert.Null(await wire.ReadLineAsync());
        Assert.Equal(QmpConnectionFailure.CallbackFailed, (await server.NextEndAsync()).Failure);
        broken = false;
        using var next = await server.ConnectNegotiatedAsync();
    }

    [Fact]
    public async Task More_clients_than_allowed_wait_for_a_place()
    {
        await using var server = TestServer.Echo(o => o with { MaxConnections = 1 });
        var first = await server.ConnectNegotiatedAsync();
        using var second = await server.ConnectAsync();
        Assert.True(await second.IsSilentAsync());
        first.Dispose();
        Assert.True((await second.ReadAsync()).TryGetProperty("QMP", out _));
    }

    [Fact]
    public async Task A_connected_socket_can_be_attached()
    {
        await using var server = new QmpServer(TestServer.EchoAsync, new QmpServerOptions { Greeting = () => TestServer.DefaultGreeting });
        var (near, far) = await SocketPair.CreateAsync();
        var connection = server.Attach(near);
        await using var client = new QmpClient();
        await client.ConnectAsync(far).Soon();
        Assert.Equal("a", (await client.ExecuteAsync("a").Soon()).GetProperty("name").GetString());
        Assert.Same(connection, Assert.Single(server.Connections));
        await client.DisconnectAsync().Soon();
        await connection.Completion.Soon();
        Assert.Empty(server.Connections);
    }

    [Fact]
    public async Task Stopping_cancels_handlers_and_ends_connections()
    {
        var started = new TaskCompletionSource();
        var cancelled = new TaskCompletionSource();
        var server = new TestServer(async (_, ct) =>
        {
            started.SetResult();
            try
            {
                await Task.Delay(Timeout.Infinite, ct);
            }
            finally
            {
                cancelled.SetResult();
            }

            return QmpReply.Success();
        });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"a\"}{\"execute\": \"b\"}");
        await started.Task.Soon();
        await server.DisposeAsync();
        Assert.True(cancelled.Task.IsCompleted);
        Assert.Empty(server.Server.Connections);
        Assert.Equal(QmpConnectionFailure.Disconnected, (await server.NextEndAsync()).Failure);
    }

    [Fact]
    public async Task The_owner_is_told_of_negotiation()
    {
        var negotiated = new TaskCompletionSource<QmpServerConnection>();
        await using var server = TestServer.Echo(o => o with { ConnectionNegotiated = negotiated.SetResult });
        using var wire = await server.ConnectNegotiatedAsync(outOfBand: true);
        var connection = await negotiated.Task.Soon();
        Assert.True(connection.Negotiated);
        Assert.True(connection.OutOfBandEnabled);
        var before = DateTimeOffset.UtcNow;
        connection.SendEvent(QmpEvent.Now("HELLO", new JsonObject { ["phase"] = "plan" }));
        var e = await wire.ReadAsync();
        Assert.Equal("HELLO", e.GetProperty("event").GetString());
        Assert.Equal("plan", e.GetProperty("data").GetProperty("phase").GetString());
        Assert.InRange(e.GetProperty("timestamp").GetProperty("seconds").GetInt64(), before.ToUnixTimeSeconds(), DateTimeOffset.UtcNow.ToUnixTimeSeconds());
    }
}
