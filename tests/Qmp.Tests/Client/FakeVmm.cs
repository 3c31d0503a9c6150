using System.Text.Json;

namespace CprSharp.Qmp.Tests.Client;

/// <summary>A client under test and the wire it hangs on.</summary>
internal sealed class FakeVmm : IAsyncDisposable
{
    public const string Greeting =
        """{"QMP": {"version": {"qemu": {"micro": 2, "minor": 1, "major": 9}, "package": "fake"}, "capabilities": ["oob", "future"]}}""" + "\r\n";

    private FakeVmm(QmpClient client, WirePeer wire) => (Client, Wire) = (client, wire);

    public QmpClient Client { get; }

    public WirePeer Wire { get; }

    /// <summary>A client that has negotiated.</summary>
    public static async Task<FakeVmm> StartAsync(QmpClientOptions? options = null, QmpClient? client = null)
    {
        client ??= new QmpClient(options);
        var (connecting, wire) = await BeginAsync(client);
        await wire.SendAsync(Greeting);
        await AnswerNegotiationAsync(wire);
        await connecting.Soon();
        return new FakeVmm(client, wire);
    }

    /// <summary>A client that waits for the greeting.</summary>
    public static async Task<(Task Connecting, WirePeer Wire)> BeginAsync(QmpClient client)
    {
        var (near, far) = await SocketPair.CreateAsync();
        return (client.ConnectAsync(near), new WirePeer(far));
    }

    public static async Task<JsonElement> AnswerNegotiationAsync(WirePeer wire)
    {
        var command = await wire.ReadAsync();
        await wire.SendAsync($"{{\"return\": {{}}, \"id\": {command.GetProperty("id")}}}\r\n");
        return command;
    }

    /// <summary>The id of the next command, which must have this name.</summary>
    public async Task<long> ExpectAsync(string name)
    {
        var command = await Wire.ReadAsync();
        Assert.Equal(name, (command.TryGetProperty("execute", out var inBand) ? inBand : command.GetProperty("exec-oob")).GetString());
        return command.GetProperty("id").GetInt64();
    }

    public Task ReturnAsync(long id, string value = "{}") => Wire.SendAsync($"{{\"return\": {value}, \"id\": {id}}}\r\n");

    public Task EventAsync(string name, int number = 0) => Wire.SendAsync(
        $"{{\"timestamp\": {{\"seconds\": 10, \"microseconds\": {number}}}, \"event\": \"{name}\", \"data\": {{\"n\": {number}}}}}\r\n");

    /// <summary>Proof that the client works: one command, one reply.</summary>
    public async Task AssertUsableAsync()
    {
        var call = Client.ExecuteAsync("query-name");
        await ReturnAsync(await ExpectAsync("query-name"), "{\"name\": \"vm\"}");
        Assert.Equal("vm", (await call.Soon()).GetProperty("name").GetString());
    }

    /// <summary>Proof that the connection is over for this reason and the client can be used again.</summary>
    public async Task<QmpConnectionException> AssertEndedAsync(QmpConnectionFailure failure)
    {
        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => Client.Completion.Soon());
        Assert.Equal(failure, cause.Failure);
        await AssertReconnectsAsync(Client);
        return cause;
    }

    public static async Task AssertReconnectsAsync(QmpClient client)
    {
        Assert.Equal(QmpClientState.Idle, client.State);
        await using var next = await StartAsync(client: client);
        await next.AssertUsableAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Client.DisconnectAsync().Soon();
        Wire.Dispose();
    }
}
