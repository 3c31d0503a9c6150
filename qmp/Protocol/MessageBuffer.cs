using System.Buffers;

namespace CprSharp.Qmp.Protocol;

internal enum ReadOutcome
{
    /// <summary>More bytes are needed.</summary>
    NeedMore,

    /// <summary>A message is complete.</summary>
    Message,

    /// <summary>The input is not JSON; reading may go on behind it.</summary>
    Malformed,

    /// <summary>The message is longer than the limit; reading may go on, the rest of it is passed over.</summary>
    Oversize,
}

/// <summary>Collects received bytes, gives out whole messages, and never holds more than one message of the largest allowed size.</summary>
/// <remarks>Not thread-safe: one reading loop owns it.</remarks>
internal sealed class MessageBuffer : IDisposable
{
    private const int InitialSize = 16 * 1024;
    private const int KeptSize = 1024 * 1024;

    private readonly int _maxMessageBytes;
    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(InitialSize);
    private int _start;
    private int _scanned;
    private int _end;
    private JsonFramer _framer;
    private bool _discarding;

    public MessageBuffer(int maxMessageBytes) => _maxMessageBytes = maxMessageBytes;

    /// <summary>What is here, for another buffer to go on with.</summary>
    public QmpInputState Save() => _framer.SaveTo(new QmpInputState
    {
        Bytes = _buffer[_start.._end],
        Scanned = _scanned - _start,
        Discarding = _discarding,
    });

    /// <summary>Goes on where another buffer was; this one must be new.</summary>
    public void Restore(QmpInputState state)
    {
        if (state.Bytes.Length >= _buffer.Length) Replace(ArrayPool<byte>.Shared.Rent(state.Bytes.Length + InitialSize));
        state.Bytes.CopyTo(_buffer, 0);
        (_start, _scanned, _end) = (0, state.Scanned, state.Bytes.Length);
        _framer = new JsonFramer(state);
        _discarding = state.Discarding;
    }

    /// <summary>Whether the stream, ending now, would end inside a message.</summary>
    public bool InMessage => _framer.InMessage;

    /// <summary>What made the last <see cref="ReadOutcome.Malformed"/>.</summary>
    public FrameError LastError { get; private set; }

    /// <summary>Free space to receive into; never empty.</summary>
    public Memory<byte> FreeSpace()
    {
        if (_start == _end)
        {
            _start = _scanned = _end = 0;
            if (_buffer.Length > KeptSize) Replace(ArrayPool<byte>.Shared.Rent(InitialSize));
        }

        if (_end == _buffer.Length)
        {
            if (_start > _buffer.Length / 2) MoveTo(_buffer);
            else Replace(ArrayPool<byte>.Shared.Rent((int)Math.Min(_buffer.Length * 2L, Array.MaxLength)));
        }

        return _buffer.AsMemory(_end);
    }

    public void Advance(int received) => _end += received;

    /// <summary>The next message, as bytes that stay valid until the next call.</summary>
    public ReadOutcome TryRead(out ReadOnlySpan<byte> message, out bool singleQuotes)
    {
        message = default;
        singleQuotes = false;
        while (_scanned < _end)
        {
            if (!_framer.InMessage)
            {
                _scanned += _framer.Skip(_buffer.AsSpan(_scanned, _end - _scanned), out var stray);
                _start = _scanned;
                if (stray != FrameError.None) return Malformed(stray);
                if (_scanned == _end) break;
            }

            _scanned += _framer.Scan(_buffer.AsSpan(_scanned, _end - _scanned), out var complete, out var error);
            var (first, length) = (_start, _scanned - _start);
            if (error != FrameError.None)
            {
                _start = _scanned;
                _discarding = false;
                return Malformed(error);
            }

            if (complete || _discarding) _start = _scanned;
            if (length > _maxMessageBytes && !_discarding)
            {
                _start = _scanned;
                _discarding = !complete;
                return ReadOutcome.Oversize;
            }

            if (!complete) break;
            if (_discarding)
            {
                _discarding = false;
                continue;
            }

            message = _buffer.AsSpan(first, length);
            singleQuotes = _framer.UsesSingleQuotes;
            return ReadOutcome.Message;
        }

        return ReadOutcome.NeedMore;
    }

    /// <summary>Bytes received and not yet given out, for the owner who has to know what a read consisted of.</summary>
    public ReadOnlySpan<byte> Unread => _buffer.AsSpan(_scanned, _end - _scanned);

    public void Dispose()
    {
        var buffer = Interlocked.Exchange(ref _buffer, []);
        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
    }

    private ReadOutcome Malformed(FrameError error)
    {
        LastError = error;
        return ReadOutcome.Malformed;
    }

    private void Replace(byte[] other)
    {
        var old = _buffer;
        MoveTo(other);
        _buffer = other;
        ArrayPool<byte>.Shared.Return(old);
    }

    private void MoveTo(byte[] target)
    {
        _buffer.AsSpan(_start, _end - _start).CopyTo(target);
        (_scanned, _end, _start) = (_scanned - _start, _end - _start, 0);
    }
}
