using System.Net.Sockets;
using System.Text.Json;

namespace CprSharp.Qmp.Tests.Client;

public sealed class NegotiationTests
{
    [Fact]
    public async Task Enables_out_of_band_where_offered_and_nothing_it_does_not_know()
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;
        Assert.Equal(QmpClientState.Negotiating, client.State);
        Assert.Null(client.Greeting);
        await wire.SendOneByOneAsync(FakeVmm.Greeting);

        var command = await FakeVmm.AnswerNegotiationAsync(wire);

        await connecting.Soon();
        Assert.Equal("qmp_capabilities", command.GetProperty("execute").GetString());
        Assert.Equal("""["oob"]""", command.GetProperty("arguments").GetProperty("enable").GetRawText());
        Assert.True(client.OutOfBandEnabled);
        Assert.Equal(new Version(9, 1, 2), client.Greeting!.Version);
        Assert.Equal(["oob", "future"], client.Greeting.Capabilities);
    }

    [Theory]
    [InlineData(true, "")]
    [InlineData(false, "\"oob\"")]
    public async Task Asks_for_nothing_where_not_offered_or_not_wanted(bool wanted, string offered)
    {
        await using var client = new QmpClient(new QmpClientOptions { EnableOutOfBand = wanted });
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;
        await wire.SendAsync($"{{\"QMP\": {{\"version\": {{\"qemu\": {{\"micro\": 0, \"minor\": 1, \"major\": 2}}}}, \"capabilities\": [{offered}]}}}}");

        var command = await FakeVmm.AnswerNegotiationAsync(wire);

        await connecting.Soon();
        Assert.False(command.TryGetProperty("arguments", out JsonElement _));
        Assert.False(client.OutOfBandEnabled);
    }

    [Fact]
    public async Task A_second_greeting_is_ignored_before_the_first_answer_and_ends_the_connection_after_it()
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;
        await wire.SendAsync(FakeVmm.Greeting);
        await wire.SendAsync(FakeVmm.Greeting);
        await FakeVmm.AnswerNegotiationAsync(wire);
        await connecting.Soon();

        var asked = client.ExecuteAsync("query-name");
        await wire.SendAsync(FakeVmm.Greeting);

        Assert.Equal(QmpConnectionFailure.InvalidMessage, (await Assert.ThrowsAsync<QmpConnectionException>(() => asked.Soon())).Failure);
    }

    [Theory]
    [InlineData("{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 1}}\r\n")]
    [InlineData("{\"return\": {}}\r\n")]
    [InlineData("{\"QMP\": {}}\r\n")]
    [InlineData("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": \"x\", \"minor\": 1, \"major\": 2}}, \"capabilities\": []}}\r\n")]
    [InlineData("[1]\r\n")]
    [InlineData("{\"QMP\": }\r\n")]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n")]
    public async Task Anything_else_first_is_no_QMP_server(string text)
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;

        await wire.SendAsync(text);

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());
        Assert.Equal(QmpConnectionFailure.GreetingMissing, cause.Failure);
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Theory]
    [InlineData("", QmpConnectionFailure.EndOfStream)]
    [InlineData("{\"QMP\": {\"version", QmpConnectionFailure.TruncatedMessage)]
    public async Task The_end_before_the_greeting(string text, QmpConnectionFailure expected)
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        await wire.SendAsync(text);
        wire.Dispose();

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());
        Assert.Equal(expected, cause.Failure);
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Silence_ends_by_the_deadline_before_the_greeting_and_before_the_answer(bool greeted)
    {
        await using var client = new QmpClient(new QmpClientOptions { GreetingTimeout = TimeSpan.FromMilliseconds(greeted ? 500 : 50) });
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;
        if (greeted) await wire.SendAsync(FakeVmm.Greeting);

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());
        Assert.Equal(QmpConnectionFailure.GreetingTimeout, cause.Failure);
        Assert.Equal(QmpClientState.Idle, client.State);
    }

    [Fact]
    public async Task A_refused_negotiation()
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;
        await wire.SendAsync(FakeVmm.Greeting);
        var id = (await wire.ReadAsync()).GetProperty("id");
        await wire.SendAsync($"{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"not today\"}}, \"id\": {id}}}");

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());
        Assert.Equal(QmpConnectionFailure.NegotiationFailed, cause.Failure);
        Assert.Contains("not today", cause.Message, StringComparison.Ordinal);
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Fact]
    public async Task Disconnect_ends_an_attempt()
    {
        await using var client = new QmpClient();
        var (connecting, wire) = await FakeVmm.BeginAsync(client);
        using var _ = wire;

        await client.DisconnectAsync().Soon();

        Assert.Equal(QmpClientState.Idle, client.State);
        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => connecting.Soon());
        Assert.Equal(QmpConnectionFailure.Disconnected, cause.Failure);
        Assert.Null(await wire.ReadLineAsync());
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Fact]
    public async Task Cancellation_ends_an_attempt()
    {
        await using var client = new QmpClient();
        var (near, far) = await SocketPair.CreateAsync();
        using var wire = new WirePeer(far);
        using var cancel = new CancellationTokenSource();
        var connecting = client.ConnectAsync(near, cancel.Token);

        await cancel.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting.Soon());
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Fact]
    public async Task A_second_connect_is_refused_and_its_socket_closed()
    {
        await using var vmm = await FakeVmm.StartAsync();
        var (near, far) = await SocketPair.CreateAsync();
        using var wire = new WirePeer(far);

        await Assert.ThrowsAsync<InvalidOperationException>(() => vmm.Client.ConnectAsync(near));

        Assert.Null(await wire.ReadLineAsync());
        await vmm.AssertUsableAsync();
    }

    [Fact]
    public async Task A_path_without_socket_says_so()
    {
        await using var client = new QmpClient();
        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => client.ConnectAsync("/nowhere/qmp.sock"));
        Assert.Equal(QmpConnectionFailure.ConnectFailed, cause.Failure);
        Assert.Contains("/nowhere/qmp.sock", cause.Message, StringComparison.Ordinal);
        Assert.IsType<SocketException>(cause.InnerException);
        await FakeVmm.AssertReconnectsAsync(client);
    }

    [Fact]
    public async Task A_disposed_client_stays_disposed()
    {
        var client = new QmpClient();
        await client.DisposeAsync();
        await client.DisposeAsync();
        var (near, far) = await SocketPair.CreateAsync();
        using var _ = far;
        await Assert.ThrowsAsync<ObjectDisposedException>(() => client.ConnectAsync(near));
    }

    [Fact]
    public void Settings_out_of_range_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new QmpClient(new() { MaxMessageBytes = 10 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new QmpClient(new() { EventBufferLimit = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new QmpClient(new() { GreetingTimeout = TimeSpan.Zero }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new QmpClient(new() { CommandTimeout = TimeSpan.Zero }));
    }
}
