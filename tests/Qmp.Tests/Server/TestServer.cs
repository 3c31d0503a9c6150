using System.Net.Sockets;
using System.Text.Json;

namespace CprSharp.Qmp.Tests.Server;

/// <summary>A server under test on a listening socket, and clients that speak bytes.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    public static readonly QmpGreeting DefaultGreeting = new(9, 1, 2, "test", ["oob"]);

    private readonly Socket _listener = SocketPair.NewSocket();
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _running;

    public TestServer(QmpCommandHandler handler, Func<QmpServerOptions, QmpServerOptions>? configure = null)
    {
        Address = SocketPair.NewAddress();
        _listener.Bind(Address);
        _listener.Listen(8);
        var options = new QmpServerOptions { Greeting = () => DefaultGreeting, HandlerFailed = (_, e) => Failures.Add(e), ConnectionClosed = (_, e) => Ends.Writer.TryWrite(e) };
        Server = new QmpServer(handler, configure?.Invoke(options) ?? options);
        _running = Server.RunAsync(_listener, _stop.Token);
    }

    /// <summary>Answers every command with its name and arguments.</summary>
    public static TestServer Echo(Func<QmpServerOptions, QmpServerOptions>? configure = null) => new(EchoAsync, configure);

    public QmpServer Server { get; }

    public UnixDomainSocketEndPoint Address { get; }

    public List<Exception> Failures { get; } = [];

    public System.Threading.Channels.Channel<QmpConnectionException> Ends { get; } = System.Threading.Channels.Channel.CreateUnbounded<QmpConnectionException>();

    public static ValueTask<QmpReply> EchoAsync(QmpServerCommand command, CancellationToken ct) => ValueTask.FromResult(
        QmpReply.Success(JsonElement.Parse($"{{\"name\": \"{command.Name}\", \"arguments\": {command.Arguments().GetRawText()}, \"descriptors\": {command.Descriptors.Count}}}")));

    public async Task<WirePeer> ConnectAsync()
    {
        var socket = SocketPair.NewSocket();
        await socket.ConnectAsync(Address);
        return new WirePeer(socket);
    }

    /// <summary>A client that has negotiated.</summary>
    public async Task<WirePeer> ConnectNegotiatedAsync(bool outOfBand = false)
    {
        var wire = await ConnectAsync();
        Assert.True((await wire.ReadAsync()).TryGetProperty("QMP", out _));
        await wire.SendAsync($"{{\"execute\": \"qmp_capabilities\", \"arguments\": {{\"enable\": [{(outOfBand ? "\"oob\"" : "")}]}}}}\r\n");
        Assert.Equal("{\"return\":{}}", await wire.ReadLineAsync());
        return wire;
    }

    public Task<QmpConnectionException> NextEndAsync() => Ends.Reader.ReadAsync().AsTask().Soon();

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.Soon();
        await Server.DisposeAsync().AsTask().Soon();
        _listener.Dispose();
        _stop.Dispose();
    }
}
