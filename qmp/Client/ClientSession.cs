using System.Net.Sockets;
using System.Text.Json.Nodes;
using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp.Client;

/// <summary>One connection from greeting to end: the reading loop and the commands in flight.</summary>
internal sealed class ClientSession : IDisposable
{
    /// <summary>What the specification grants before the server may stop reading, and with it out-of-band commands.</summary>
    private const int MaxInBandInFlight = 8;

    private readonly Lock _gate = new();
    private readonly Socket _socket;
    private readonly QmpClientOptions _options;
    private readonly EventHub _events;
    private readonly Func<ClientSession, QmpEventSubscription[]> _onEnded;
    private readonly MessageWriter _writer;
    private readonly Queue<PendingCommand> _waiting = new();
    private readonly Dictionary<long, PendingCommand> _sent = [];
    private readonly ReadPause _pause = new();
    private readonly MessageBuffer _buffer;
    private readonly TaskCompletionSource<QmpGreeting> _greeting = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private QmpConnectionException? _cause;
    private int _inBandInFlight;
    private bool _descriptorsInFlight;
    private bool _isAnswered;
    private long _lastSendOrder;
    private long _discardedReplies;

    /// <param name="socket">Connected; owned from here on.</param>
    /// <param name="options">The client's.</param>
    /// <param name="events">Where events go.</param>
    /// <param name="onEnded">Called once, before anybody who waits for this connection learns of its end; gives the subscriptions that end with it.</param>
    public ClientSession(Socket socket, QmpClientOptions options, EventHub events, Func<ClientSession, QmpEventSubscription[]> onEnded)
    {
        _socket = socket;
        _options = options;
        _events = events;
        _onEnded = onEnded;
        _writer = new MessageWriter(socket, long.MaxValue, e => Close(IoFailure(e)));
        _buffer = new MessageBuffer(options.MaxMessageBytes);
    }

    /// <summary>Goes on with a connection that has been negotiated.</summary>
    public ClientSession(Socket socket, QmpClientOptions options, EventHub events, Func<ClientSession, QmpEventSubscription[]> onEnded, QmpClientSnapshot snapshot)
        : this(socket, options, events, onEnded)
    {
        _greeting.SetResult(snapshot.Greeting);
        OutOfBandEnabled = snapshot.OutOfBandEnabled;
        _buffer.Restore(snapshot.Input);
    }

    public SafeSocketHandle Handle => _socket.SafeHandle;

    /// <summary>What was read and not used; while paused.</summary>
    public QmpInputState Input => _buffer.Save();

    /// <summary>Completes last, and never faults.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Why the connection is over, or null while it is not.</summary>
    public QmpConnectionException? Cause
    {
        get
        {
            lock (_gate) return _cause;
        }
    }

    /// <summary>Completes when this side closed the connection; faults with the cause otherwise.</summary>
    public Task Completion => _completion.Task;

    public bool OutOfBandEnabled { get; private set; }

    public long DiscardedReplies => Interlocked.Read(ref _discardedReplies);

    public void Start() => _ = RunAsync();

    /// <summary>Waits for the greeting and enables what is wanted and offered.</summary>
    public async Task<QmpGreeting> NegotiateAsync(long id, CancellationToken ct)
    {
        var greeting = await _greeting.Task.WaitAsync(ct);
        var outOfBand = _options.EnableOutOfBand && greeting.OffersOutOfBand;
        var arguments = outOfBand ? new JsonObject { ["enable"] = new JsonArray(QmpGreeting.OutOfBandCapability) } : null;
        const string Command = "qmp_capabilities";
        using var negotiation = new PendingCommand(id, Command, WithLineEnd(MessageText.Command(Command, arguments, false, id)), false, [], _options.InlineContinuations);
        var reply = await ExecuteAsync(negotiation, null, ct);
        if (reply.IsError)
            throw new QmpConnectionException(QmpConnectionFailure.NegotiationFailed, $"The VMM refused {Command}: {reply.ErrorDescription}");
        OutOfBandEnabled = outOfBand;
        return greeting;
    }

    /// <summary>Sends the command when its turn comes and waits for the reply. Takes the command over.</summary>
    public async Task<QmpReply> ExecuteAsync(PendingCommand command, TimeSpan? timeout, CancellationToken ct)
    {
        if (ct.IsCancellationRequested)
        {
            command.Dispose();
            ct.ThrowIfCancellationRequested();
        }

        Enqueue(command);
        using var registration = ct.UnsafeRegister((_, token) => Abandon(command, (c, _) => c.Cancel(token)), null);
        using var timer = timeout is { } limit && limit != Timeout.InfiniteTimeSpan
            ? new Timer(_ => Abandon(command, (c, wasSent) => c.Fail(new QmpTimeoutException(c.Name, limit, wasSent))), null, limit, Timeout.InfiniteTimeSpan)
            : null;
        return await command.Task;
    }

    /// <summary>Reads no more.</summary>
    /// <returns>Whether no command waits for its answer.</returns>
    public async Task<bool> PauseAsync()
    {
        await _pause.AskAsync();
        lock (_gate) return _cause is null && _waiting.Count == 0 && _sent.Values.All(c => c.Abandoned);
    }

    /// <summary>Reads on.</summary>
    public void Continue() => _pause.Continue();

    public void Dispose()
    {
        Close(new QmpConnectionException(QmpConnectionFailure.Disconnected, "The QMP connection was closed by this side."));
        _writer.Dispose();
        _pause.Dispose();
        _buffer.Dispose();
    }

    /// <summary>Ends the connection; the first cause counts.</summary>
    public void Close(QmpConnectionException cause)
    {
        lock (_gate) _cause ??= cause;
        // Disposing ends the pending receive, and the reading loop does the rest.
        _socket.Dispose();
        _pause.Continue();
    }

    /// <summary>Lets the reading loop see the end of the stream behind what is in the socket already (unix(7), shutdown(2) SHUT_RD).</summary>
    public void FinishReading()
    {
        try
        {
            _socket.Shutdown(SocketShutdown.Receive);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Close(IoFailure(e));
        }
    }

    public static byte[] WithLineEnd(ReadOnlySpan<byte> message) => [.. message, .. "\r\n"u8];

    private static QmpConnectionException IoFailure(Exception e) =>
        new(QmpConnectionFailure.Io, $"The QMP socket failed: {e.Message}", e);

    private void Enqueue(PendingCommand command)
    {
        List<(PendingCommand, Exception)>? failed = null;
        lock (_gate)
        {
            if (_cause is { } cause)
            {
                command.Dispose();
                throw cause.Copy();
            }

            if (command.OutOfBand)
            {
                Send(command, ref failed);
            }
            else
            {
                _waiting.Enqueue(command);
                Pump(ref failed);
            }
        }

        Report(failed);
    }

    /// <summary>Sends what may be sent now, in the order of the calls.</summary>
    private void Pump(ref List<(PendingCommand, Exception)>? failed)
    {
        while (_waiting.TryPeek(out var head))
        {
            // QEMU keeps only the descriptors that arrived last, until a command takes them: a second set would replace the first.
            if (!head.Abandoned && (_inBandInFlight >= MaxInBandInFlight || (head.HasDescriptors && _descriptorsInFlight))) return;
            _waiting.Dequeue();
            if (!head.Abandoned) Send(head, ref failed);
        }
    }

    private void Send(PendingCommand command, ref List<(PendingCommand, Exception)>? failed)
    {
        command.Progress = CommandProgress.Sent;
        command.SendOrder = ++_lastSendOrder;
        _sent.Add(command.Id, command);
        Count(command, +1);
        try
        {
            _writer.Write(command.Message, command.Descriptors);
        }
        catch (Exception e) when (e is SocketException or QmpConnectionException or ObjectDisposedException)
        {
            _sent.Remove(command.Id);
            Count(command, -1);
            (failed ??= []).Add((command, SendFailure(command, e)));
        }
    }

    private static IOException SendFailure(PendingCommand command, Exception e) => e switch
    {
        // The connection is not to blame: nothing was sent, and other commands go on.
        SocketException { SocketErrorCode: not (SocketError.Shutdown or SocketError.ConnectionReset or SocketError.NotConnected) }
            when command.HasDescriptors => new IOException($"{command.Name}: its descriptors could not be sent: {e.Message}", e),
        _ => new QmpConnectionException(QmpConnectionFailure.Io, $"{command.Name} could not be sent: {e.Message}", e),
    };

    private void Count(PendingCommand command, int change)
    {
        if (command.OutOfBand) return;
        _inBandInFlight += change;
        if (command.HasDescriptors) _descriptorsInFlight = change > 0;
    }

    private static void Report(List<(PendingCommand Command, Exception Cause)>? failed)
    {
        foreach (var (command, cause) in failed ?? [])
        {
            command.Dispose();
            command.Fail(cause);
        }
    }

    private void Abandon(PendingCommand command, Action<PendingCommand, bool> complete)
    {
        List<(PendingCommand, Exception)>? failed = null;
        bool sent;
        lock (_gate)
        {
            command.Abandoned = true;
            sent = command.Progress == CommandProgress.Sent;
            Pump(ref failed);
        }

        if (!sent) command.Dispose();
        complete(command, sent);
        Report(failed);
    }

    private async Task RunAsync()
    {
        QmpConnectionException cause;
        using (_buffer)
        {
            try
            {
                cause = await ReadAsync(_buffer);
            }
            catch (QmpConnectionException e)
            {
                cause = e;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                cause = IoFailure(e);
            }
        }

        _pause.Dispose();
        End(cause);
    }

    private async Task<QmpConnectionException> ReadAsync(MessageBuffer buffer)
    {
        while (NextMessage(buffer) is { } restored) Dispatch(restored);
        while (true)
        {
            var received = await ReceiveAsync(buffer);
            if (received == 0)
            {
                return buffer.InMessage
                    ? new(QmpConnectionFailure.TruncatedMessage, "The peer closed the QMP connection inside a message.")
                    : new(QmpConnectionFailure.EndOfStream, "The peer closed the QMP connection.");
            }

            buffer.Advance(received);
            while (NextMessage(buffer) is { } line) Dispatch(line);
        }
    }

    /// <summary>A receive that is cancelled has taken nothing from the socket.</summary>
    private async ValueTask<int> ReceiveAsync(MessageBuffer buffer)
    {
        while (true)
        {
            var token = _pause.Token;
            try
            {
                return await _socket.ReceiveAsync(buffer.FreeSpace(), token);
            }
            catch (OperationCanceledException) when (token.IsCancellationRequested)
            {
                await _pause.ParkAsync(CancellationToken.None);
            }
        }
    }

    private byte[]? NextMessage(MessageBuffer buffer) => buffer.TryRead(out var message, out _) switch
    {
        ReadOutcome.NeedMore => null,
        ReadOutcome.Message => MessageText.ToSingleLine(message),
        ReadOutcome.Oversize => throw new QmpConnectionException(QmpConnectionFailure.OversizeMessage,
            $"The peer sent a message of more than {_options.MaxMessageBytes} bytes (MaxMessageBytes)."),
        _ when buffer.LastError == FrameError.TooDeep => throw new QmpConnectionException(QmpConnectionFailure.OversizeMessage,
            $"The peer sent a message nested more than {JsonFramer.MaxDepth} deep."),
        _ => throw Invalid($"input that is not JSON ({buffer.LastError})"),
    };

    private void Dispatch(byte[] line)
    {
        if (!Envelope.TryParse(line, out var envelope, out var problem)) throw Invalid($"malformed JSON ({problem})");
        var greetingExpected = !_greeting.Task.IsCompleted;

        // QEMU 11.1 was seen to greet twice who connects while it starts, before it reads the first command.
        if (envelope.Kind == EnvelopeKind.Greeting && !greetingExpected && !_isAnswered)
            return;
        if (greetingExpected != (envelope.Kind == EnvelopeKind.Greeting))
            throw Invalid(greetingExpected ? "another message" : "a second greeting");
        switch (envelope.Kind)
        {
            case EnvelopeKind.Greeting:
                Greet(line);
                break;
            case EnvelopeKind.Event:
                _events.Publish(line, envelope, MessageText.StringValue(line.AsSpan()[envelope.Value]) ?? throw Invalid("an event whose name is no string"));
                break;
            case EnvelopeKind.Return or EnvelopeKind.Error:
                _isAnswered = true;
                Complete(new QmpReply(line, envelope), envelope, line);
                break;
            default:
                throw Invalid("an object that is neither reply nor event");
        }
    }

    private void Greet(byte[] line)
    {
        try
        {
            _greeting.SetResult(QmpGreeting.Parse(MessageText.ParseElement(line)));
        }
        catch (FormatException e)
        {
            throw new QmpConnectionException(QmpConnectionFailure.GreetingMissing, e.Message, e);
        }
    }

    private QmpConnectionException Invalid(string what) => _greeting.Task.IsCompleted
        ? new(QmpConnectionFailure.InvalidMessage, $"The peer sent {what}.")
        : new(QmpConnectionFailure.GreetingMissing, $"The peer sent {what} where the QMP greeting belongs; is this a QMP socket?");

    private void Complete(QmpReply reply, Envelope envelope, ReadOnlySpan<byte> line)
    {
        PendingCommand? command;
        List<(PendingCommand, Exception)>? failed = null;
        lock (_gate)
        {
            command = envelope.Id is { } id ? FindById(line[id]) : FindWithoutId(reply);
            if (command is null || command.Abandoned) Interlocked.Increment(ref _discardedReplies);
            if (command is null) return;
            _sent.Remove(command.Id);
            Count(command, -1);
            Pump(ref failed);
        }

        command.Dispose();
        command.Complete(reply);
        Report(failed);
    }

    private PendingCommand? FindById(ReadOnlySpan<byte> id) =>
        Envelope.NumericId(id) is { } number ? _sent.GetValueOrDefault(number) : null;

    /// <summary>
    /// QEMU answers without id when it could not read the command. In-band answers come in order, so the oldest command is meant, unless an
    /// out-of-band one is under way too.
    /// </summary>
    private PendingCommand FindWithoutId(QmpReply reply)
    {
        if (!reply.IsError) throw Invalid("a reply without id");
        if (_sent.Count == 0 || _sent.Values.Any(c => c.OutOfBand))
        {
            throw new QmpConnectionException(QmpConnectionFailure.UnassignableError,
                $"The peer sent an error without id that belongs to no command for certain: {reply.ErrorDescription}");
        }

        return _sent.Values.MinBy(c => c.SendOrder)!;
    }

    private void End(QmpConnectionException cause)
    {
        PendingCommand[] lost;
        lock (_gate)
        {
            cause = _cause ??= cause;
            lost = [.. _sent.Values, .. _waiting];
            _sent.Clear();
            _waiting.Clear();
        }

        _socket.Dispose();
        var byThisSide = cause.Failure == QmpConnectionFailure.Disconnected;
        foreach (var subscription in _onEnded(this)) subscription.End(byThisSide ? null : cause);
        foreach (var command in lost)
        {
            command.Dispose();
            command.Fail(cause.Copy());
        }

        Fault(_greeting, cause);
        if (byThisSide) _completion.SetResult();
        else Fault(_completion, cause);
        _ended.SetResult();
    }

    private static void Fault<T>(TaskCompletionSource<T> source, Exception cause)
    {
        source.TrySetException(cause);
        // Waiting for it is optional; nobody doing so is not an error.
        _ = source.Task.Exception;
    }

    private static void Fault(TaskCompletionSource source, Exception cause)
    {
        source.TrySetException(cause);
        _ = source.Task.Exception;
    }
}
