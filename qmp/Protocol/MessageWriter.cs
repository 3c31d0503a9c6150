using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Interop;

namespace CprSharp.Qmp.Protocol;

/// <summary>
/// Puts messages on a stream socket, whole and in order. A message goes out at once, on the caller's thread, while the socket has room;
/// otherwise it waits in memory, up to a limit.
/// </summary>
internal sealed class MessageWriter : IDisposable
{
    private static readonly byte[] s_whiteSpace = " "u8.ToArray();

    private readonly Lock _gate = new();
    private readonly Socket _socket;
    private readonly long _maxQueuedBytes;
    private readonly Action<Exception> _onFailure;
    private readonly Queue<(ReadOnlyMemory<byte> Data, IReadOnlyList<SafeHandle> Descriptors)> _queue = new();
    private long _queuedBytes;
    private int _headSent;
    private bool _flushing;
    private bool _paused;
    private CancellationTokenSource _pausing = new();
    private bool _failed;
    private Task _flush = Task.CompletedTask;

    /// <param name="socket">Connected stream socket; not owned.</param>
    /// <param name="maxQueuedBytes">More than this waiting makes <see cref="Write"/> throw.</param>
    /// <param name="onFailure">Called once, from another thread, when output that had to wait could not be sent.</param>
    public MessageWriter(Socket socket, long maxQueuedBytes, Action<Exception> onFailure)
    {
        _socket = socket;
        _maxQueuedBytes = maxQueuedBytes;
        _onFailure = onFailure;
    }

    /// <summary>Sends or queues one message. The descriptors must stay open until the message is answered.</summary>
    /// <exception cref="SocketException">The socket refused, and nothing of this message was sent.</exception>
    /// <exception cref="QmpConnectionException">The peer does not read, and the limit on waiting output is reached; or the output failed before.</exception>
    public void Write(ReadOnlyMemory<byte> data, IReadOnlyList<SafeHandle> descriptors)
    {
        lock (_gate)
        {
            if (_failed) throw new QmpConnectionException(QmpConnectionFailure.Io, "The connection's output has failed.");
            if (!_flushing && !_paused)
            {
                data = data[SendNow(data.Span, descriptors, out var descriptorsSent)..];
                if (data.IsEmpty) return;
                if (descriptorsSent) descriptors = [];
            }

            if (_queuedBytes + data.Length > _maxQueuedBytes && _queuedBytes > 0)
                throw new QmpConnectionException(QmpConnectionFailure.OutputOverflow,
                    $"The peer does not read: {_queuedBytes} bytes of output are waiting, the limit is {_maxQueuedBytes}.");
            _queuedBytes += data.Length;
            _queue.Enqueue((data, descriptors));
            StartFlush();
        }
    }

    /// <summary>Sends no more. Completes when what is not sent stays here.</summary>
    public async Task PauseAsync()
    {
        CancellationTokenSource pausing;
        Task flush;
        lock (_gate)
        {
            _paused = true;
            (pausing, flush) = (_pausing, _flush);
        }

        await pausing.CancelAsync();
        await flush;
    }

    /// <summary>After <see cref="PauseAsync"/>: what is not sent. None of it may have descriptors.</summary>
    public byte[] Unsent()
    {
        lock (_gate)
        {
            var unsent = new byte[_queuedBytes - _headSent];
            var room = unsent.AsSpan();
            var sent = _headSent;
            foreach (var (data, _) in _queue)
            {
                data.Span[sent..].CopyTo(room);
                room = room[(data.Length - sent)..];
                sent = 0;
            }

            return unsent;
        }
    }

    /// <summary>Goes on after <see cref="PauseAsync"/>.</summary>
    public void Continue()
    {
        lock (_gate)
        {
            if (!_paused) return;
            _paused = false;
            _pausing.Dispose();
            _pausing = new CancellationTokenSource();
            if (_queue.Count > 0 && !_failed) StartFlush();
        }
    }

    /// <summary>Completes when no output waits any more: it was sent, or the socket failed.</summary>
    public async Task DrainAsync()
    {
        while (true)
        {
            Task flush;
            lock (_gate) flush = _flush;
            if (flush.IsCompleted) return;
            await flush;
        }
    }

    public void Dispose() => _pausing.Dispose();

    private void StartFlush()
    {
        if (_flushing || _paused) return;
        _flushing = true;
        _flush = FlushAsync(_pausing.Token);
    }

    private int SendNow(ReadOnlySpan<byte> data, IReadOnlyList<SafeHandle> descriptors, out bool descriptorsSent)
    {
        var sent = ScmRights.Send(_socket.SafeHandle, data, descriptors.Count == 0 ? [] : descriptors.ToArray());
        descriptorsSent = sent > 0;
        return Math.Max(sent, 0);
    }

    private async Task FlushAsync(CancellationToken pausing)
    {
        // Off the caller's stack, and out of its lock.
        await Task.Yield();
        try
        {
            while (TryPeek(out var data, out var descriptors))
            {
                while (descriptors.Count > 0)
                {
                    // A space between two messages means nothing; its acceptance says that the socket has room again.
                    await _socket.SendAsync(s_whiteSpace);
                    var begun = SendNow(data.Span, descriptors, out var descriptorsSent);
                    data = data[begun..];
                    lock (_gate) _headSent += begun;
                    if (descriptorsSent) descriptors = [];
                }

                while (!data.IsEmpty)
                {
                    // One byte is sent or, cancelled, not sent; of more than that a cancelled send says not how many were.
                    var sent = SendNow(data.Span, [], out _) is > 0 and var count ? count : await _socket.SendAsync(data[..1], pausing);
                    data = data[sent..];
                    lock (_gate) _headSent += sent;
                }

                Dequeue();
            }
        }
        catch (OperationCanceledException)
        {
            StandStill();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            GiveUp();
            _onFailure(e);
        }
    }

    // Not within FlushAsync's handlers: the trimmer of .NET 10 takes a lock's release out of those (dotnet/runtime issue 131088).
    private void StandStill()
    {
        lock (_gate) _flushing = false;
    }

    private void GiveUp()
    {
        lock (_gate)
        {
            _failed = true;
            _queue.Clear();
            (_queuedBytes, _headSent) = (0, 0);
        }
    }

    private bool TryPeek(out ReadOnlyMemory<byte> data, out IReadOnlyList<SafeHandle> descriptors)
    {
        lock (_gate)
        {
            _flushing = _queue.TryPeek(out var head) && !_paused;
            (data, descriptors) = (head.Data[(_flushing ? _headSent : 0)..], head.Descriptors);
            return _flushing;
        }
    }

    private void Dequeue()
    {
        lock (_gate)
        {
            _queuedBytes -= _queue.Dequeue().Data.Length;
            _headSent = 0;
        }
    }
}
