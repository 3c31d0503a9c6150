namespace CprSharp.VmmUpdate.Consoles;

/// <summary>Bytes on their way, first in first out, in a room of fixed size.</summary>
internal sealed class ByteBuffer(int capacity)
{
    private byte[] _bytes = new byte[capacity];
    private int _start;
    private int _end;

    public int Count => _end - _start;

    public bool HasRoom => Count < capacity;

    public ReadOnlySpan<byte> Content => _bytes.AsSpan(_start, Count);

    /// <summary>Where more can be put; <see cref="Added"/> says how much was.</summary>
    public Span<byte> Free
    {
        get
        {
            if (_start > 0)
            {
                Content.CopyTo(_bytes);
                (_start, _end) = (0, Count);
            }

            return HasRoom ? _bytes.AsSpan(_end, capacity - Count) : [];
        }
    }

    public void Added(int count) => _end += count;

    public void Taken(int count)
    {
        _start += count;
        if (_start == _end)
            _start = _end = 0;
    }

    /// <summary>Puts bytes back in front, beyond the room if need be: there is no other place for them.</summary>
    public void PutBack(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
            return;
        var all = new byte[Math.Max(capacity, bytes.Length + Count)];
        bytes.CopyTo(all);
        Content.CopyTo(all.AsSpan(bytes.Length));
        (_bytes, _start, _end) = (all, 0, bytes.Length + Count);
    }

    /// <summary>Starts with these.</summary>
    public void Restore(ReadOnlySpan<byte> bytes) => PutBack(bytes);

    public void Clear() => _start = _end = 0;
}
