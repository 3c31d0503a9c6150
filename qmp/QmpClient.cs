using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp.Client;
using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp;

/// <summary>
/// A QMP client: one connection at a time, any number of commands at once. A connection that ended, however it ended, leaves the client
/// <see cref="QmpClientState.Idle"/>, ready for the next <see cref="ConnectAsync(string, CancellationToken)"/>.
/// </summary>
/// <remarks>All members may be called from any thread. Protocol: QEMU docs/interop/qmp-spec.rst.</remarks>
public sealed class QmpClient : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly QmpClientOptions _options;
    private readonly EventHub _events;
    private QmpClientState _state;
    private ClientSession? _session;
    private QmpGreeting? _greeting;
    private CancellationTokenSource? _connecting;
    private Task _connectEnded = Task.CompletedTask;
    private bool _disposed;
    private long _lastId;

    /// <param name="options">Settings; null means the defaults.</param>
    /// <exception cref="ArgumentOutOfRangeException">A setting is out of its range.</exception>
    public QmpClient(QmpClientOptions? options = null)
    {
        _options = QmpClientOptions.Validate(options ?? new QmpClientOptions());
        _events = new EventHub(_options);
    }

    /// <summary>The state now; another thread may change it at any time.</summary>
    public QmpClientState State
    {
        get
        {
            lock (_gate) return _state;
        }
    }

    /// <summary>What the VMM said first, or null when there is no connection.</summary>
    public QmpGreeting? Greeting
    {
        get
        {
            lock (_gate) return _state == QmpClientState.Running ? _greeting : null;
        }
    }

    /// <summary>Whether this connection may execute out-of-band.</summary>
    public bool OutOfBandEnabled
    {
        get
        {
            lock (_gate) return _state == QmpClientState.Running && _session!.OutOfBandEnabled;
        }
    }

    /// <summary>
    /// Replies of the current or last connection that nobody waited for: late ones, after a deadline or cancellation, and ones with an
    /// id that this client never used. The specification has clients drop them; this counts them.
    /// </summary>
    public long DiscardedReplies
    {
        get
        {
            lock (_gate) return _session?.DiscardedReplies ?? 0;
        }
    }

    /// <summary>
    /// Completes when the current connection ends: normally when this side closed it, otherwise faulted with
    /// <see cref="QmpConnectionException"/>. Without a connection, the last one's; before the first, complete.
    /// </summary>
    public Task Completion
    {
        get
        {
            lock (_gate) return _session?.Completion ?? Task.CompletedTask;
        }
    }

    /// <summary>Connects to a QMP socket and negotiates.</summary>
    /// <param name="unixPath">The socket's path, at most 107 bytes; for a longer one connect a socket yourself and use the other overload.</param>
    /// <param name="ct">Ends the attempt; the client is Idle again then.</param>
    /// <exception cref="InvalidOperationException">The client is not Idle.</exception>
    /// <exception cref="QmpConnectionException">No connection, no greeting in time, or negotiation refused.</exception>
    public async Task ConnectAsync(string unixPath, CancellationToken ct = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(unixPath);
        var endPoint = new UnixDomainSocketEndPoint(unixPath);
        await ConnectAsync(async token =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(endPoint, token);
                return socket;
            }
            catch (Exception e)
            {
                socket.Dispose();
                if (e is not SocketException { SocketErrorCode: var code }) throw;
                // .NET reports ENOENT on a Unix socket as AddressNotAvailable.
                var reason = code == SocketError.AddressNotAvailable ? "it does not exist" : e.Message;
                throw new QmpConnectionException(QmpConnectionFailure.ConnectFailed, $"Cannot connect to the QMP socket {unixPath}: {reason}.", e);
            }
        }, unixPath, ct);
    }

    /// <summary>Negotiates on a socket that is connected already.</summary>
    /// <param name="connected">A connected stream socket; the client owns it from the call on, also when the call fails.</param>
    /// <param name="ct">Ends the attempt; the client is Idle again then.</param>
    /// <inheritdoc cref="ConnectAsync(string, CancellationToken)"/>
    public async Task ConnectAsync(Socket connected, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(connected);
        try
        {
            await ConnectAsync(_ => Task.FromResult(connected), "the given socket", ct);
        }
        catch
        {
            connected.Dispose();
            throw;
        }
    }

    /// <summary>Closes the connection, or ends the attempt to make one. Commands in flight fail with <see cref="QmpConnectionException"/>.</summary>
    /// <returns>Completes when the client is Idle; never fails; nothing to do is fine.</returns>
    public async Task DisconnectAsync()
    {
        ClientSession? session;
        Task connectCancelled, connectEnded;
        lock (_gate)
        {
            session = _session;
            connectEnded = _connectEnded;
            connectCancelled = _connecting?.CancelAsync() ?? Task.CompletedTask;
            if (_state == QmpClientState.Running) _state = QmpClientState.Disconnecting;
        }

        session?.Close(new QmpConnectionException(QmpConnectionFailure.Disconnected, "The QMP connection was closed by this side."));
        await connectCancelled;
        await connectEnded;
        if (session is not null) await session.Ended;
    }

    /// <summary>Takes in everything that the peer has sent by now, events too, and then ends the connection.</summary>
    /// <returns>
    /// Completes when the client is Idle; never fails. All that was read has been delivered then, and <see cref="Completion"/> faults with
    /// <see cref="QmpConnectionFailure.EndOfStream"/>. What the peer sends later is lost: this is for a peer that has stopped, or soon ends.
    /// </returns>
    public async Task FinishReadingAsync()
    {
        ClientSession? session;
        lock (_gate) session = _session;
        if (session is null) return;
        session.FinishReading();
        await session.Ended;
    }

    /// <summary>Goes on with a connection that another process has had, or another program in this process.</summary>
    /// <param name="connected">Its socket; owned by the client from the call on.</param>
    /// <param name="snapshot">What <see cref="Save"/> gave over there.</param>
    /// <param name="options">Settings; null means the defaults.</param>
    public static QmpClient Restore(Socket connected, QmpClientSnapshot snapshot, QmpClientOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(connected);
        ArgumentNullException.ThrowIfNull(snapshot);
        var client = new QmpClient(options);
        client._lastId = snapshot.LastId;
        client._greeting = snapshot.Greeting;
        client._session = new ClientSession(connected, client._options, client._events, client.OnSessionEnded, snapshot);
        client._state = QmpClientState.Running;
        return client;
    }

    /// <summary>Begins to read after <see cref="Restore"/>. Apart from it, so that whoever wants the first event can subscribe before.</summary>
    public void Start() => RunningSession().Start();

    /// <summary>Stops reading, so that <see cref="Save"/> can be called: what the VMM says from now on stays in the socket.</summary>
    /// <returns>False, and nothing is stopped, when a command waits for its reply or there is no connection.</returns>
    public async Task<bool> PauseAsync()
    {
        ClientSession? session;
        lock (_gate) session = _state == QmpClientState.Running ? _session : null;
        if (session is null) return false;
        if (await session.PauseAsync()) return true;
        session.Continue();
        return false;
    }

    /// <summary>Reads on after <see cref="PauseAsync"/>.</summary>
    public void Continue()
    {
        ClientSession? session;
        lock (_gate) session = _session;
        session?.Continue();
    }

    /// <summary>While paused: everything about the connection besides <see cref="Handle"/>.</summary>
    /// <exception cref="QmpConnectionException">There is none.</exception>
    public QmpClientSnapshot Save()
    {
        var session = RunningSession();
        return new QmpClientSnapshot { Greeting = Greeting!, OutOfBandEnabled = session.OutOfBandEnabled, LastId = Interlocked.Read(ref _lastId), Input = session.Input };
    }

    /// <summary>The connection's socket, which stays the client's.</summary>
    /// <exception cref="QmpConnectionException">There is no connection.</exception>
    public System.Runtime.InteropServices.SafeHandle Handle => RunningSession().Handle;

    /// <summary>Disconnects for good.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate) _disposed = true;
        await DisconnectAsync();
    }

    /// <summary>Executes a command and gives back what it returns.</summary>
    /// <param name="command">The command's name, for example <c>query-status</c>.</param>
    /// <param name="arguments">Its arguments; null for none. Read during the call only.</param>
    /// <param name="options">Out-of-band, deadline, descriptors.</param>
    /// <param name="ct">
    /// Ends the wait. A command that was sent may still be executed; its late reply is discarded. One that was not yet sent never will be.
    /// </param>
    /// <exception cref="QmpException">The VMM answered with an error.</exception>
    /// <exception cref="QmpTimeoutException">The deadline passed.</exception>
    /// <exception cref="QmpConnectionException">There is no connection, or it broke before the reply; whether the command took effect is unknown.</exception>
    /// <exception cref="InvalidOperationException">Out-of-band was asked for and the connection has not negotiated it.</exception>
    public async Task<JsonElement> ExecuteAsync(
        string command, JsonObject? arguments = null, QmpCommandOptions? options = null, CancellationToken ct = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(command);
        options ??= new QmpCommandOptions();
        var session = RunningSession();
        if (options.OutOfBand && !session.OutOfBandEnabled)
            throw new InvalidOperationException($"{command}: out-of-band execution is not enabled on this connection (EnableOutOfBand, offer of the VMM).");
        var id = NextId();
        var message = ClientSession.WithLineEnd(MessageText.Command(command, arguments, options.OutOfBand, id));
        var reply = await SubmitAsync(session, id, command, message, options.OutOfBand, options, ct);
        return reply.ReturnValueOrThrow(command);
    }

    /// <summary>
    /// Passes on a command as it is, with all its members, and gives back the reply as it is. Only the <c>id</c> is replaced on the way
    /// out; <see cref="QmpReply.WithId"/> puts the original one back. An error reply does not throw.
    /// </summary>
    /// <param name="command">One JSON object. Whether it goes out-of-band is decided by its own <c>exec-oob</c>.</param>
    /// <param name="options">Deadline, descriptors; <see cref="QmpCommandOptions.OutOfBand"/> is not looked at.</param>
    /// <param name="ct">Ends the wait, see <see cref="ExecuteAsync(string, JsonObject?, QmpCommandOptions?, CancellationToken)"/>.</param>
    /// <exception cref="FormatException">It is not one JSON object in valid UTF-8, or has a member of QMP twice.</exception>
    /// <exception cref="QmpTimeoutException">The deadline passed.</exception>
    /// <exception cref="QmpConnectionException">There is no connection, or it broke before the reply.</exception>
    public async Task<QmpReply> ExecuteRawAsync(ReadOnlyMemory<byte> command, QmpCommandOptions? options = null, CancellationToken ct = default)
    {
        if (!Request.TryRead(command.Span, out var request, out var problem)) throw new FormatException($"Not a JSON object: {problem}.");
        var session = RunningSession();
        var id = NextId();
        var message = ClientSession.WithLineEnd(
            MessageText.ToSingleLine(JsonSplice.WithId(command.Span, MessageText.Number(id))));
        var outOfBand = request.IsOutOfBand && session.OutOfBandEnabled;
        return await SubmitAsync(session, id, request.Name ?? "(no command)", message, outOfBand, options ?? new(), ct);
    }

    /// <summary>
    /// Starts listening to events. It counts from this call on, so that whoever subscribes and then executes cannot miss an event.
    /// Made while Idle, it belongs to the next connection, however many attempts that takes. Events that nobody subscribes to are not kept.
    /// </summary>
    /// <param name="names">The events wanted; none means all.</param>
    public QmpEventSubscription Subscribe(params string[] names)
    {
        ArgumentNullException.ThrowIfNull(names);
        return _events.Add(names);
    }

    private async Task<QmpReply> SubmitAsync(
        ClientSession session, long id, string name, byte[] message, bool outOfBand, QmpCommandOptions options, CancellationToken ct)
    {
        var descriptors = options.Descriptors ?? [];
        if (descriptors.Count > QmpCommandOptions.MaxDescriptors)
            throw new ArgumentException($"{name}: {descriptors.Count} descriptors; QEMU takes up to {QmpCommandOptions.MaxDescriptors}.", nameof(options));
        if (descriptors.Count > 0 && outOfBand)
            throw new ArgumentException($"{name}: descriptors cannot go with an out-of-band command.", nameof(options));
        var timeout = options.Timeout ?? _options.CommandTimeout;
        if (timeout is { } limit && limit != Timeout.InfiniteTimeSpan && (limit <= TimeSpan.Zero || limit > QmpClientOptions.LongestTimeout))
            throw new ArgumentOutOfRangeException(nameof(options), $"{name}: a deadline of {limit} is not between 0 and {QmpClientOptions.LongestTimeout}.");
        var pending = new PendingCommand(id, name, message, outOfBand, descriptors, _options.InlineContinuations);
        return await session.ExecuteAsync(pending, timeout, ct);
    }

    private async Task ConnectAsync(Func<CancellationToken, Task<Socket>> open, string peer, CancellationToken ct)
    {
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var attempt = CancellationTokenSource.CreateLinkedTokenSource(ct);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_state != QmpClientState.Idle) throw new InvalidOperationException($"The QMP client is {_state}; disconnect it first.");
            _state = QmpClientState.Connecting;
            _connecting = attempt;
            _connectEnded = ended.Task;
        }

        ClientSession? session = null;
        try
        {
            var socket = await open(attempt.Token);
            lock (_gate) _state = QmpClientState.Negotiating;
            session = new ClientSession(socket, _options, _events, OnSessionEnded);
            session.Start();
            var greeting = await NegotiateAsync(session, peer, attempt.Token);
            Enter(session, greeting);
        }
        catch (Exception e)
        {
            if (session is not null)
            {
                session.Close(e as QmpConnectionException ?? new QmpConnectionException(QmpConnectionFailure.Disconnected, "The connection attempt was given up."));
                await session.Ended;
            }

            lock (_gate)
            {
                _connecting = null;
                _state = QmpClientState.Idle;
            }

            if (e is OperationCanceledException && !ct.IsCancellationRequested)
                throw new QmpConnectionException(QmpConnectionFailure.Disconnected, "The connection attempt was ended by a disconnect.", e);
            throw;
        }
        finally
        {
            ended.SetResult();
        }
    }

    private async Task<QmpGreeting> NegotiateAsync(ClientSession session, string peer, CancellationToken ct)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(ct);
        deadline.CancelAfter(_options.GreetingTimeout);
        try
        {
            return await session.NegotiateAsync(NextId(), deadline.Token);
        }
        catch (OperationCanceledException e) when (!ct.IsCancellationRequested)
        {
            throw new QmpConnectionException(QmpConnectionFailure.GreetingTimeout,
                $"No QMP greeting from {peer} within {_options.GreetingTimeout.TotalSeconds:0.###} s. Another client may hold this monitor, or the VMM is still starting.", e);
        }
    }

    private void Enter(ClientSession session, QmpGreeting greeting)
    {
        lock (_gate)
        {
            _connecting!.Token.ThrowIfCancellationRequested();
            if (session.Cause is { } cause) throw cause.Copy();
            _connecting = null;
            _session = session;
            _greeting = greeting;
            _state = QmpClientState.Running;
        }
    }

    /// <summary>Subscriptions outlive a connection that never got to Running, so that one made before a series of attempts is not lost.</summary>
    private QmpEventSubscription[] OnSessionEnded(ClientSession session)
    {
        lock (_gate)
        {
            if (_session != session) return [];
            _state = QmpClientState.Idle;
            return _events.Detach();
        }
    }

    private ClientSession RunningSession()
    {
        lock (_gate)
        {
            return _state == QmpClientState.Running
                ? _session!
                : throw new QmpConnectionException(QmpConnectionFailure.NotConnected, $"The QMP client is not connected ({_state}).");
        }
    }

    private long NextId() => Interlocked.Increment(ref _lastId);
}
