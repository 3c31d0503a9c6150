using System.Net.Sockets;
using System.Text.Json;
using System.Threading.Channels;
using CprSharp.Qmp.Protocol;
using CprSharp.Qmp.Server;

namespace CprSharp.Qmp;

/// <summary>
/// One client of a <see cref="QmpServer"/>. In-band commands are executed one after the other and answered in order; out-of-band ones run
/// at once beside them. At most <see cref="MaxQueuedCommands"/> in-band commands wait; beyond that reading stops, and the client's writes
/// with it. Without out-of-band negotiated, nothing is read while a command executes, as in QEMU.
/// </summary>
/// <remarks>
/// What is not JSON is answered with a GenericError without id, and reading goes on where the next message can begin: at an opening
/// bracket or behind a line end. A client that closes its side gets what it sent before executed; replies that can no longer be sent are
/// dropped.
/// </remarks>
public sealed class QmpServerConnection : IAsyncDisposable
{
    /// <summary>In-band commands that wait behind the one executing (QEMU monitor/monitor-internal.h, QMP_REQ_QUEUE_LEN_MAX).</summary>
    public const int MaxQueuedCommands = 8;

    private const string Negotiation = "qmp_capabilities";

    private readonly Lock _entering = new();
    private readonly Socket _socket;
    private readonly QmpCommandHandler _handler;
    private readonly QmpServerOptions _options;
    private readonly MessageWriter _writer;
    private readonly Channel<Incoming> _inBand = Channel.CreateBounded<Incoming>(
        new BoundedChannelOptions(MaxQueuedCommands) { SingleReader = true, SingleWriter = true });
    private readonly SemaphoreSlim _outOfBandSlots = new(MaxQueuedCommands, MaxQueuedCommands);
    private readonly CancellationTokenSource _lifetime = new();
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ReadPause _pause = new();
    private readonly ServerInput _input;
    private readonly QmpServerSnapshot? _restored;
    private readonly Lock _counting = new();
    private int _unanswered;
    private int _undispatched;
    private TaskCompletionSource? _answered;
    private int _answeredBelow;
    private QmpConnectionException? _cause;
    private bool _offersOutOfBand;
    private volatile bool _negotiated;
    private volatile bool _outOfBandEnabled;

    internal QmpServerConnection(Socket socket, QmpPeerCredentials? peer, QmpCommandHandler handler, QmpServerOptions options)
    {
        _socket = socket;
        Peer = peer;
        _handler = handler;
        _options = options;
        // A peer that has gone is noticed by reading, which first gives out what it sent.
        _writer = new MessageWriter(socket, options.MaxQueuedOutputBytes, static _ => { });
        _input = new ServerInput(socket, options);
    }

    /// <summary>Goes on with a client that another process has served.</summary>
    internal QmpServerConnection(Socket socket, QmpPeerCredentials? peer, QmpCommandHandler handler, QmpServerOptions options, QmpServerSnapshot snapshot, QmpReply? reply)
        : this(socket, peer, handler, options)
    {
        _restored = snapshot;
        (_negotiated, _outOfBandEnabled, _offersOutOfBand) = (snapshot.Negotiated, snapshot.OutOfBandEnabled, snapshot.OffersOutOfBand);
        _input.Restore(snapshot.Input);
        if (snapshot.Output.Length > 0) Write(snapshot.Output);
        if (snapshot.UnansweredId is { } id && reply is not null) Write(WithLineEnd(reply.WithId(id)));
    }

    /// <summary>The client's socket; it stays the connection's.</summary>
    public System.Runtime.InteropServices.SafeHandle Handle => _socket.SafeHandle;

    /// <summary>Everything about the connection besides its socket; while the server is paused.</summary>
    /// <param name="current">The command that is being executed and will be answered by whoever goes on; null when there is none.</param>
    /// <exception cref="InvalidOperationException">It came with something that cannot be handed on: commands behind the current one, descriptors.</exception>
    public QmpServerSnapshot Save(QmpServerCommand? current = null)
    {
        lock (_counting)
        {
            if (_unanswered != (current is null ? 0 : 1) || _undispatched > 0)
                throw new InvalidOperationException("other commands wait behind this one on its connection");
        }

        if (_input.HoldsDescriptors) throw new InvalidOperationException("a client has sent descriptors whose command is not complete");
        return new QmpServerSnapshot
        {
            Negotiated = _negotiated,
            OffersOutOfBand = _offersOutOfBand,
            OutOfBandEnabled = _outOfBandEnabled,
            Input = _input.Save(),
            Output = _writer.Unsent(),
            UnansweredId = current?.RawId.ToArray(),
        };
    }

    /// <summary>Who connected; null when the socket is not AF_UNIX.</summary>
    public QmpPeerCredentials? Peer { get; }

    /// <summary>Whether the client has negotiated; before it gets no events.</summary>
    public bool Negotiated => _negotiated;

    /// <summary>Whether the client has enabled out-of-band execution.</summary>
    public bool OutOfBandEnabled => _outOfBandEnabled;

    /// <summary>Free for the owner of the handler.</summary>
    public object? Tag { get; set; }

    /// <summary>Completes when the connection is over and no handler runs for it any more; never faults.</summary>
    public Task Completion => _completion.Task;

    /// <summary>
    /// Sends an event, or queues it behind output that waits. Before negotiation it is not sent, as the specification has it. Replies
    /// and events go out in the order of the calls.
    /// </summary>
    public void SendEvent(QmpEvent e)
    {
        ArgumentNullException.ThrowIfNull(e);
        SendEventLine(LineOf(e));
    }

    /// <summary>Takes no more commands; ends the connection when those that were sent are answered and the client has read the answers.</summary>
    public void Finish()
    {
        try
        {
            _socket.Shutdown(SocketShutdown.Receive);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It has ended already.
        }
    }

    /// <summary>Ends the connection at once; handlers that run are cancelled.</summary>
    public void Close() => Close(new QmpConnectionException(QmpConnectionFailure.Disconnected, "The server closed the QMP connection."));

    /// <summary>Closes and waits for the handlers that still run; so not to be awaited inside one, where <see cref="Close()"/> does.</summary>
    public async ValueTask DisposeAsync()
    {
        Close();
        await Completion;
    }

    /// <summary>Reads no more; completes when all that was read is answered.</summary>
    /// <param name="executing">How many commands are being executed and not to be waited for.</param>
    internal async Task PauseReadingAsync(int executing)
    {
        var parked = _pause.AskAsync();
        Task answered;
        lock (_counting)
        {
            _answeredBelow = executing;
            _answered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            if (_unanswered <= executing) _answered.SetResult();
            answered = _answered.Task;
        }

        // Without out-of-band nothing is read while a command is executed.
        await (executing == 0 || _outOfBandEnabled ? Task.WhenAll(parked, answered) : answered);

        // What was read meanwhile, before the loop parked.
        lock (_counting) answered = _unanswered <= executing ? Task.CompletedTask : (_answered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        await answered;
    }

    /// <summary>Sends no more; what could not be sent stays for <see cref="Save"/>.</summary>
    internal Task PauseWritingAsync() => _writer.PauseAsync();

    /// <summary>Goes on after the pauses.</summary>
    internal void Continue()
    {
        _writer.Continue();
        _pause.Continue();
    }

    internal static byte[] LineOf(QmpEvent e) => WithLineEnd(MessageText.ToSingleLine(e.RawUtf8.Span));

    internal void SendEventLine(ReadOnlyMemory<byte> line)
    {
        bool negotiated;
        lock (_entering) negotiated = _negotiated;
        if (negotiated) Write(line);
    }

    /// <summary>Serves the client until it is gone.</summary>
    /// <param name="ended">Called before <see cref="Completion"/> completes.</param>
    internal async Task RunAsync(Action ended)
    {
        try
        {
            var cause = _restored is null ? Greet() ?? await ServeAsync() : await ServeAsync();
            cause = Interlocked.CompareExchange(ref _cause, cause, null) ?? cause;
            _socket.Dispose();
            _options.ConnectionClosed?.Invoke(this, cause);
        }
        finally
        {
            _socket.Dispose();
            ended();
            _completion.SetResult();
        }
    }

    private static byte[] WithLineEnd(ReadOnlySpan<byte> message) => [.. message, .. "\r\n"u8];

    private void Close(QmpConnectionException cause)
    {
        Interlocked.CompareExchange(ref _cause, cause, null);
        _lifetime.Cancel();
        _socket.Dispose();
    }

    private QmpConnectionException? Greet()
    {
        try
        {
            if (_options.Authorize is { } authorize && !authorize(Peer))
                return new(QmpConnectionFailure.NotAuthorized, $"The client was refused: {Peer?.ToString() ?? "not a Unix socket"}.");
            var greeting = _options.Greeting();
            _offersOutOfBand = greeting.OffersOutOfBand;
            Write(WithLineEnd(MessageText.Greeting(greeting)));
            return null;
        }
        catch (Exception e)
        {
            return CallbackFailure(e);
        }
    }

    private async Task<QmpConnectionException> ServeAsync()
    {
        using var input = _input;
        var worker = WorkAsync();
        QmpConnectionException cause;
        try
        {
            cause = await ReadAsync(input);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            cause = new(QmpConnectionFailure.Io, $"The QMP socket failed: {e.Message}", e);
        }

        _pause.Dispose();
        _inBand.Writer.Complete();
        await worker;
        for (var i = 0; i < MaxQueuedCommands; i++) await _outOfBandSlots.WaitAsync();
        await _writer.DrainAsync();
        return cause;
    }

    private async Task<QmpConnectionException> ReadAsync(ServerInput input)
    {
        while (await NextBatchAsync(input) is { } batch)
        {
            var next = 0;
            try
            {
                while (next < batch.Count)
                {
                    Volatile.Write(ref _undispatched, batch.Count - next - 1);
                    await DispatchAsync(batch[next++]);
                }
            }
            finally
            {
                Volatile.Write(ref _undispatched, 0);
                while (next < batch.Count) batch[next++].Finish();
            }
        }

        return input.InMessage
            ? new(QmpConnectionFailure.TruncatedMessage, "The client closed the QMP connection inside a message.")
            : new(QmpConnectionFailure.EndOfStream, "The client closed the QMP connection.");
    }

    private async ValueTask<List<Incoming>?> NextBatchAsync(ServerInput input)
    {
        while (true)
        {
            var token = _pause.Token;
            try
            {
                return await input.ReadAsync(token);
            }
            catch (OperationCanceledException) when (token.IsCancellationRequested)
            {
                await _pause.ParkAsync(_lifetime.Token);
            }
        }
    }

    private void Count(int change)
    {
        lock (_counting)
        {
            _unanswered += change;
            if (_unanswered <= _answeredBelow) _answered?.TrySetResult();
        }
    }

    private async ValueTask DispatchAsync(Incoming incoming)
    {
        Count(+1);
        incoming.Finished = () => Count(-1);
        var outOfBandEnabled = _outOfBandEnabled;
        var outOfBand = outOfBandEnabled && incoming.Request.IsOutOfBand && incoming.Answer is null;
        try
        {
            if (outOfBand) await _outOfBandSlots.WaitAsync(_lifetime.Token);
            else await _inBand.Writer.WriteAsync(incoming, _lifetime.Token);
        }
        catch
        {
            incoming.Finish();
            throw;
        }

        if (outOfBand) _ = ExecuteOutOfBandAsync(incoming);
        else if (!outOfBandEnabled) await incoming.Done.WaitAsync(_lifetime.Token);
    }

    private async Task WorkAsync()
    {
        await foreach (var incoming in _inBand.Reader.ReadAllAsync())
        {
            if (_lifetime.IsCancellationRequested) incoming.Finish();
            else await ExecuteAsync(incoming);
        }
    }

    private async Task ExecuteOutOfBandAsync(Incoming incoming)
    {
        await ExecuteAsync(incoming);
        _outOfBandSlots.Release();
    }

    private async Task ExecuteAsync(Incoming incoming)
    {
        try
        {
            if (incoming.Answer is { } answer) Reply(incoming, answer);
            else if (Refusal(incoming.Request) is { } refusal) Reply(incoming, refusal);
            else if (incoming.Request.Name == Negotiation) Negotiate(incoming);
            else if (await HandleAsync(incoming) is { } reply) Reply(incoming, reply);
        }
        catch (Exception e)
        {
            Close(CallbackFailure(e));
        }
        finally
        {
            incoming.Finish();
        }
    }

    private static QmpConnectionException CallbackFailure(Exception e) =>
        new(QmpConnectionFailure.CallbackFailed, $"A callback in QmpServerOptions failed: {e.Message}", e);

    /// <summary>Negotiation and its rules are the connection's own business, not the handler's.</summary>
    private QmpReply? Refusal(Request request)
    {
        if (request.IsOutOfBand && !_outOfBandEnabled)
            return QmpReply.Error(QmpErrorClass.GenericError, "QMP input member 'exec-oob' is unexpected");
        if (_negotiated == (request.Name != Negotiation)) return null;
        return QmpReply.Error(QmpErrorClass.CommandNotFound, _negotiated
            ? "Capabilities negotiation is already complete, command ignored"
            : $"Expecting capabilities negotiation with '{Negotiation}'");
    }

    private void Negotiate(Incoming incoming)
    {
        if (CapabilityProblem(incoming, out var outOfBand) is { } problem)
        {
            Reply(incoming, QmpReply.Error(QmpErrorClass.GenericError, problem));
            return;
        }

        _outOfBandEnabled = outOfBand;
        // The reply comes before the first event, and a client that has it misses none.
        lock (_entering)
        {
            Reply(incoming, QmpReply.Success());
            _negotiated = true;
        }

        _options.ConnectionNegotiated?.Invoke(this);
    }

    private string? CapabilityProblem(Incoming incoming, out bool outOfBand)
    {
        outOfBand = false;
        if (incoming.Request.Arguments is not { } range) return null;
        foreach (var argument in MessageText.ParseElement(incoming.Line.AsSpan()[range]).EnumerateObject())
        {
            // Raw text throughout: a client may send strings that have no value, such as half a surrogate pair.
            if (argument.ToString() is var text && !text.StartsWith("\"enable\"", StringComparison.Ordinal) || argument.Value.ValueKind != JsonValueKind.Array)
                return $"Parameter {text} is unexpected: {Negotiation} takes an array 'enable'";
            foreach (var wanted in argument.Value.EnumerateArray())
            {
                if (!_offersOutOfBand || wanted.GetRawText() != $"\"{QmpGreeting.OutOfBandCapability}\"")
                    return $"Capability {wanted.GetRawText()} is not available";
                outOfBand = true;
            }
        }

        return null;
    }

    private async ValueTask<QmpReply?> HandleAsync(Incoming incoming)
    {
        var command = new QmpServerCommand(this, incoming.Line, incoming.Request, incoming.Descriptors);
        try
        {
            return await _handler(command, _lifetime.Token);
        }
        catch (QmpException e)
        {
            return QmpReply.Error(e.ErrorClass, e.Description);
        }
        catch (OperationCanceledException) when (_lifetime.IsCancellationRequested)
        {
            return null;
        }
        catch (Exception e)
        {
            _options.HandlerFailed?.Invoke(command, e);
            return QmpReply.Error(QmpErrorClass.GenericError, $"{command.Name} failed in the server: {e.Message}");
        }
    }

    private void Reply(Incoming incoming, QmpReply reply) => Write(WithLineEnd(reply.WithId(incoming.Id)));

    private void Write(ReadOnlyMemory<byte> line)
    {
        try
        {
            _writer.Write(line, []);
        }
        catch (QmpConnectionException e) when (e.Failure == QmpConnectionFailure.OutputOverflow)
        {
            Close(e);
        }
        catch (Exception e) when (e is SocketException or QmpConnectionException or ObjectDisposedException)
        {
            // The reading side learns of it in its own order, see the constructor.
        }
    }
}
