using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp.Tests.Server;

namespace CprSharp.Qmp.Tests.Qemu;

/// <summary>Client and server of this library as a proxy in front of a real QEMU, and QEMU itself as the measure of the server's manners.</summary>
public sealed class ProxyTests
{
    [Fact]
    public async Task Several_clients_share_one_QEMU_through_a_proxy()
    {
        await using var qemu = new QemuProcess();
        await using var inner = await qemu.ConnectAsync();
        await using var proxy = Proxy(inner);
        using var events = inner.Subscribe();
        var forwarding = ForwardAsync(events, proxy.Server);
        await using var first = await ConnectAsync(proxy);
        await using var second = await ConnectAsync(proxy);
        using var ofFirst = first.Subscribe();
        using var ofSecond = second.Subscribe("RESUME");
        Assert.Equal(inner.Greeting!.Package, first.Greeting!.Package);

        using var file = File.OpenHandle("/dev/zero");
        var added = await first.ExecuteAsync("add-fd", new JsonObject { ["fdset-id"] = 3 }, new() { Descriptors = [file] }).Soon();
        Assert.Equal("/dev/zero", new FileInfo($"/proc/{qemu.Process.Id}/fd/{added.GetProperty("fd").GetInt32()}").LinkTarget);
        var sets = await second.ExecuteAsync("query-fdsets").Soon();
        Assert.Equal(3, sets[0].GetProperty("fdset-id").GetInt32());

        await second.ExecuteAsync("cont").Soon();
        var resume = await ofFirst.NextAsync().Soon();
        Assert.Equal("RESUME", resume.Name);
        Assert.Equal(resume.RawUtf8.ToArray(), (await ofSecond.NextAsync().Soon()).RawUtf8.ToArray());
        Assert.True(resume.TimestampMicroseconds > 0);

        var oob = await Assert.ThrowsAsync<QmpException>(() => first.ExecuteAsync("migrate-pause", options: new() { OutOfBand = true }).Soon());
        Assert.Equal(QmpErrorClass.GenericError, oob.ErrorClass);
        await Task.WhenAll(Enumerable.Range(0, 60).Select(async i =>
        {
            var path = $"/machine/nothing-{i}";
            var error = await Assert.ThrowsAsync<QmpException>(
                () => (i % 2 == 0 ? first : second).ExecuteAsync("qom-list", new JsonObject { ["path"] = path }));
            Assert.Contains(path, error.Description, StringComparison.Ordinal);
        })).Soon();
        Assert.True((await QmpSchema.QueryAsync(second).Soon()).HasCommand("quit"));

        await inner.DisconnectAsync().Soon();
        await forwarding.Soon();
    }

    /// <summary>Ends with a command whose reply marks the end; QEMU's reaction up to there is the expectation.</summary>
    [Theory]
    [InlineData("""{"execute": "query-name", "id": {"a": [1, 2.5, null]}}""")]
    [InlineData("""{"execute": "query-name"}{"execute": "query-name", "id": 2}""")]
    [InlineData("""{'execute': 'query-name', 'id': 'it\'s'}""")]
    [InlineData("{\"execute\":\n \"query-name\",\r\n\t\"id\": 1}")]
    [InlineData("""{"execute": "no-such-command", "id": 1}""")]
    [InlineData("""{"execute": "query-name", "extra": 1, "id": 1}""")]
    [InlineData("""{"execute": "query-name", "arguments": 5, "id": 1}""")]
    [InlineData("""{"execute": 5, "id": 1}""")]
    [InlineData("""{"id": 1}""")]
    [InlineData("""{"execute": "query-name", "exec-oob": "query-name", "id": 1}""")]
    [InlineData("""{"exec-oob": "query-name", "id": 1}""")]
    [InlineData("""{"exec-oob": 7, "id": 1}""")]
    [InlineData("""{"execute": "qmp_capabilities", "id": 1}""")]
    [InlineData("""[]""")]
    [InlineData("""{"execute": }""")]
    [InlineData("""{"execute": "query-name",}""")]
    [InlineData("""{"execute": "query-name"]}""")]
    [InlineData("""{"execute": "query-name", "execute": "query-name"}""")]
    [InlineData("null\n")]
    [InlineData("}\n")]
    [InlineData("{\"execute\": \"query-\u0001")]
    [InlineData("{\"execute\": \"query-\n")]
    [InlineData("{\"execute\": \"query-\nname")]
    [InlineData("{\"execute\": \"query-\u00ff")]
    [InlineData("\u00ff")]
    public async Task The_server_reacts_to_odd_input_as_QEMU_does(string text)
    {
        await using var qemu = new QemuProcess();
        await using (await qemu.ConnectAsync())
        {
        }

        await using var server = new TestServer((c, _) => c switch
        {
            { Name: "query-name", OutOfBand: false } => ValueTask.FromResult(QmpReply.Success()),
            { Name: "query-name" } => throw new QmpException(c.Name, QmpErrorClass.GenericError, "does not support OOB"),
            _ => throw new QmpException(c.Name, QmpErrorClass.CommandNotFound, "no such command"),
        });
        foreach (var outOfBand in new[] { false, true })
        {
            var socket = SocketPair.NewSocket();
            await socket.ConnectAsync(new System.Net.Sockets.UnixDomainSocketEndPoint(qemu.SocketPath));
            using var real = new WirePeer(socket);
            using var ours = await server.ConnectAsync();
            Assert.Equal(await ReactionAsync(real, text, outOfBand), await ReactionAsync(ours, text, outOfBand));
        }
    }

    internal static TestServer Proxy(QmpClient inner) => new(
        async (command, ct) => await inner.ExecuteRawAsync(command.RawUtf8, new QmpCommandOptions { Descriptors = command.Descriptors }, ct),
        o => o with { Greeting = () => inner.Greeting!, PassUnknownMembers = true });

    private static async Task<QmpClient> ConnectAsync(TestServer proxy)
    {
        var socket = SocketPair.NewSocket();
        await socket.ConnectAsync(proxy.Address);
        var client = new QmpClient();
        await client.ConnectAsync(socket).Soon();
        return client;
    }

    private static async Task ForwardAsync(QmpEventSubscription events, QmpServer server)
    {
        await foreach (var e in events) await server.BroadcastAsync(e);
    }

    /// <summary>The replies' kinds, error classes and ids, without the texts, which QEMU changes as it likes.</summary>
    private static async Task<List<string>> ReactionAsync(WirePeer wire, string text, bool outOfBand)
    {
        Assert.True((await wire.ReadAsync()).TryGetProperty("QMP", out _));
        await wire.SendAsync($"{{\"execute\": \"qmp_capabilities\", \"arguments\": {{\"enable\": [{(outOfBand ? "\"oob\"" : "")}]}}}}\r\n");
        await wire.ReadAsync();
        await wire.SendAsync([.. System.Text.Encoding.Latin1.GetBytes(text), .. "\n{\"execute\": \"query-name\", \"id\": \"the end\"}\r\n"u8]);
        var reaction = new List<string>();
        while (true)
        {
            var reply = await wire.ReadAsync();
            var id = reply.TryGetProperty("id", out var found) ? JsonSerializer.Serialize(found) : "no id";
            if (id == "\"the end\"") return reaction;
            reaction.Add($"{(reply.TryGetProperty("error", out var error) ? error.GetProperty("class").GetString() : "return")}, {id}");
        }
    }
}
