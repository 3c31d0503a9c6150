using System.Net.Sockets;
using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp;

/// <summary>
/// The server side of QMP (QEMU docs/interop/qmp-spec.rst): greeting, negotiation, commands to a handler, replies and events back; any
/// number of clients.
/// </summary>
public sealed class QmpServer : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly QmpCommandHandler _handler;
    private readonly QmpServerOptions _options;
    private readonly SemaphoreSlim _slots;
    private readonly CancellationTokenSource _stopping = new();
    private readonly List<ReadPause> _accepting = [];
    private QmpServerConnection[] _connections = [];

    /// <param name="handler">Executes commands. Called for one in-band command of a connection at a time, and beside it for out-of-band ones.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="ArgumentOutOfRangeException">A setting is out of its range.</exception>
    public QmpServer(QmpCommandHandler handler, QmpServerOptions options)
    {
        ArgumentNullException.ThrowIfNull(handler);
        ArgumentNullException.ThrowIfNull(options);
        _handler = handler;
        _options = QmpServerOptions.Validate(options);
        _slots = new SemaphoreSlim(options.MaxConnections, options.MaxConnections);
    }

    /// <summary>The connections now.</summary>
    public IReadOnlyList<QmpServerConnection> Connections => Volatile.Read(ref _connections);

    /// <summary>Accepts and serves clients until cancelled; the connections made stay. May run for several listeners at once.</summary>
    /// <param name="listener">A listening stream socket; it stays the caller's.</param>
    /// <param name="ct">Ends the accepting; the returned task then completes normally.</param>
    /// <exception cref="SocketException">The listener failed for good.</exception>
    public async Task RunAsync(Socket listener, CancellationToken ct)
    {
        ArgumentNullException.ThrowIfNull(listener);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, _stopping.Token);
        using var pause = new ReadPause();
        lock (_gate) _accepting.Add(pause);
        try
        {
            while (true)
            {
                var paused = pause.Token;
                try
                {
                    await AcceptOneAsync(listener, either.Token, paused);
                }
                catch (OperationCanceledException) when (paused.IsCancellationRequested && !either.IsCancellationRequested)
                {
                    await pause.ParkAsync(either.Token);
                }
            }
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
        }
        finally
        {
            lock (_gate) _accepting.Remove(pause);
        }
    }

    /// <summary>
    /// Accepts nobody and reads nothing any more. What clients send and who connects from now on waits in the kernel, for whoever goes on:
    /// this server after <see cref="Continue"/>, or another program with the same sockets (<see cref="Restore"/>).
    /// </summary>
    /// <param name="current">The command whose handler calls this; null when none does.</param>
    /// <param name="ct">Ends the waiting; call <see cref="Continue"/> then.</param>
    /// <returns>Completes when every other command that was read is answered.</returns>
    public async Task PauseAsync(QmpServerCommand? current, CancellationToken ct)
    {
        ReadPause[] accepting;
        lock (_gate) accepting = [.. _accepting];
        await Task.WhenAll(accepting.Select(a => a.AskAsync())).WaitAsync(ct);
        await Task.WhenAll(Connections.Select(c => c.PauseReadingAsync(c == current?.Connection ? 1 : 0))).WaitAsync(ct);
    }

    /// <summary>Sends nothing any more either; afterwards <see cref="QmpServerConnection.Save"/> is complete.</summary>
    public Task PauseWritingAsync() => Task.WhenAll(Connections.Select(c => c.PauseWritingAsync()));

    /// <summary>Goes on after the pauses.</summary>
    public void Continue()
    {
        ReadPause[] accepting;
        lock (_gate) accepting = [.. _accepting];
        foreach (var connection in Connections) connection.Continue();
        foreach (var loop in accepting) loop.Continue();
    }

    /// <summary>Goes on with a client that another program has served.</summary>
    /// <param name="connected">Its socket; owned by the connection from the call on.</param>
    /// <param name="snapshot">What <see cref="QmpServerConnection.Save"/> gave over there.</param>
    /// <param name="reply">For the command that waits for one.</param>
    public QmpServerConnection Restore(Socket connected, QmpServerSnapshot snapshot, QmpReply? reply = null)
    {
        ArgumentNullException.ThrowIfNull(connected);
        ArgumentNullException.ThrowIfNull(snapshot);
        var hasSlot = _slots.Wait(0);
        return Serve(
            connected,
            ended: hasSlot ? () => _slots.Release() : static () => { },
            socket => new QmpServerConnection(socket, QmpPeerCredentials.Of(socket), _handler, _options, snapshot, reply));
    }

    private async Task AcceptOneAsync(Socket listener, CancellationToken stopping, CancellationToken paused)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, paused);
        await _slots.WaitAsync(either.Token);
        try
        {
            Serve(await AcceptAsync(listener, either.Token), ended: () => _slots.Release());
        }
        catch
        {
            _slots.Release();
            throw;
        }
    }

    /// <summary>Serves a client on a socket that is connected already, for example one inherited.</summary>
    /// <param name="connected">A connected stream socket; owned by the connection from the call on.</param>
    public QmpServerConnection Attach(Socket connected)
    {
        ArgumentNullException.ThrowIfNull(connected);
        return Serve(connected, static () => { });
    }

    /// <summary>Sends an event to every client that has negotiated. A client that does not read delays nobody.</summary>
    /// <returns>Completes when it has been handed to the kernel or queued for each.</returns>
    public ValueTask BroadcastAsync(QmpEvent e, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(e);
        ct.ThrowIfCancellationRequested();
        var line = QmpServerConnection.LineOf(e);
        foreach (var connection in Connections) connection.SendEventLine(line);
        return ValueTask.CompletedTask;
    }

    /// <summary>Stops accepting, takes no more commands, and waits until those that were sent are answered and the connections closed.</summary>
    /// <param name="ct">Ends the waiting only; <see cref="DisposeAsync"/> closes what is then left, such as a client that does not read.</param>
    /// <exception cref="OperationCanceledException">Cancelled before all had ended.</exception>
    public async Task FinishAsync(CancellationToken ct)
    {
        await _stopping.CancelAsync();
        var connections = Connections;
        foreach (var connection in connections) connection.Finish();
        await Task.WhenAll(connections.Select(c => c.Completion)).WaitAsync(ct);
    }

    /// <summary>Stops accepting, closes all connections, and waits for the handlers that still run.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        foreach (var connection in Connections) connection.Close();
        await Task.WhenAll(Connections.Select(c => c.Completion));
    }

    private static async Task<Socket> AcceptAsync(Socket listener, CancellationToken ct)
    {
        while (true)
        {
            try
            {
                return await listener.AcceptAsync(ct);
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.TooManyOpenSockets or SocketError.NoBufferSpaceAvailable)
            {
                // accept(2) gives no sign when descriptors are free again, and the client stays in the backlog.
                await Task.Delay(TimeSpan.FromMilliseconds(100), ct);
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionAborted or SocketError.ConnectionReset)
            {
                // This client gave up before it was accepted; the next one may not have.
            }
        }
    }

    private QmpServerConnection Serve(Socket socket, Action ended) =>
        Serve(socket, ended, s => new QmpServerConnection(s, QmpPeerCredentials.Of(s), _handler, _options));

    private QmpServerConnection Serve(Socket socket, Action ended, Func<Socket, QmpServerConnection> make)
    {
        QmpServerConnection connection;
        try
        {
            connection = make(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        lock (_gate) _connections = [.. _connections, connection];
        _ = connection.RunAsync(() =>
        {
            lock (_gate) _connections = [.. _connections.Where(c => c != connection)];
            ended();
        });
        // Stopped in between: DisposeAsync may not have seen this one.
        if (_stopping.IsCancellationRequested) connection.Close();
        return connection;
    }
}
