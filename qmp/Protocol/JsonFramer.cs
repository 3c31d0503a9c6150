using System.Buffers;

namespace CprSharp.Qmp.Protocol;

internal enum FrameError
{
    None,

    /// <summary>Something between two messages that is neither white space nor an opening bracket.</summary>
    StrayInput,

    /// <summary>A control character where JSON allows none, or a byte that UTF-8 never uses; the spec's way to force resynchronisation.</summary>
    ControlCharacter,

    /// <summary>More nested brackets than QEMU accepts.</summary>
    TooDeep,
}

/// <summary>
/// Finds where messages begin and end in a stream of JSON objects. QMP has no length prefix, and line ends do not count: QEMU reads
/// objects that span lines or share one, and prints such objects with <c>pretty=on</c>. So brackets are counted outside strings, as
/// QEMU does (qobject/json-lexer.c, json-streamer.c), including its single-quoted strings and its recovery from garbage.
/// </summary>
/// <remarks>The state does not depend on how the bytes were split into reads.</remarks>
internal struct JsonFramer
{
    /// <summary>QEMU's limit (qobject/json-streamer.c, MAX_NESTING).</summary>
    public const int MaxDepth = 1024;

    private static readonly SearchValues<byte> s_outsideStrings = SearchValues.Create([.. "\"'{}[]"u8, .. Forbidden(allowLayout: true)]);
    private static readonly SearchValues<byte> s_inDoubleQuotes = SearchValues.Create([.. "\"\\"u8, .. Forbidden(allowLayout: false)]);
    private static readonly SearchValues<byte> s_inSingleQuotes = SearchValues.Create([.. "'\\"u8, .. Forbidden(allowLayout: false)]);
    private static readonly SearchValues<byte> s_recoveryEnds = SearchValues.Create("{[\n"u8);

    private int _depth;
    private byte _quote;
    private bool _escaped;
    private bool _recovering;

    /// <summary>The state that another framer had.</summary>
    public JsonFramer(QmpInputState state)
    {
        (_depth, _quote, _escaped, _recovering) = (state.Depth, state.Quote, state.Escaped, state.Recovering);
        UsesSingleQuotes = state.SingleQuotes;
    }

    /// <summary>Adds this state to that of a buffer.</summary>
    public readonly QmpInputState SaveTo(QmpInputState state) =>
        state with { Depth = _depth, Quote = _quote, Escaped = _escaped, Recovering = _recovering, SingleQuotes = UsesSingleQuotes };

    /// <summary>Whether a message has begun and not ended.</summary>
    public readonly bool InMessage => _depth > 0;

    /// <summary>Whether garbage is being skipped.</summary>
    public readonly bool Recovering => _recovering;

    /// <summary>Whether the message in hand uses QEMU's single-quoted strings or its escape \', which JSON parsers do not know.</summary>
    public bool UsesSingleQuotes { get; private set; }

    /// <summary>
    /// Between messages: passes over white space (or garbage, after an error) and stops in front of an opening bracket.
    /// Returns the bytes passed; on an error the last of them caused it.
    /// </summary>
    public int Skip(ReadOnlySpan<byte> data, out FrameError error)
    {
        error = FrameError.None;
        var position = 0;
        while (position < data.Length)
        {
            if (_recovering)
            {
                var end = data[position..].IndexOfAny(s_recoveryEnds);
                if (end < 0) return data.Length;
                position += end;
                _recovering = false;
            }

            switch (data[position])
            {
                case (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n':
                    position++;
                    break;
                case (byte)'{' or (byte)'[':
                    return position;
                case var stray:
                    error = IsForbidden(stray) ? FrameError.ControlCharacter : FrameError.StrayInput;
                    _recovering = true;
                    return position + 1;
            }
        }

        return position;
    }

    /// <summary>From an opening bracket on: returns the bytes passed; <paramref name="complete"/> says that the last of them closed the message.</summary>
    public int Scan(ReadOnlySpan<byte> data, out bool complete, out FrameError error)
    {
        complete = false;
        error = FrameError.None;
        if (_depth == 0) UsesSingleQuotes = false;
        var position = 0;
        while (position < data.Length)
        {
            if (_escaped)
            {
                _escaped = false;
                UsesSingleQuotes |= data[position] == (byte)'\'';
                if (IsForbidden(data[position])) return Fail(FrameError.ControlCharacter, position, out error);
                position++;
                continue;
            }

            var stop = data[position..].IndexOfAny(_quote switch { 0 => s_outsideStrings, (byte)'"' => s_inDoubleQuotes, _ => s_inSingleQuotes });
            if (stop < 0) return data.Length;
            position += stop;
            var found = data[position];
            switch (found)
            {
                case (byte)'\\':
                    _escaped = true;
                    break;
                case (byte)'"' or (byte)'\'':
                    _quote = _quote == 0 ? found : (byte)0;
                    UsesSingleQuotes |= found == (byte)'\'';
                    break;
                case (byte)'{' or (byte)'[':
                    if (++_depth > MaxDepth) return Fail(FrameError.TooDeep, position, out error);
                    break;
                case (byte)'}' or (byte)']':
                    if (--_depth == 0)
                    {
                        complete = true;
                        return position + 1;
                    }

                    break;
                default:
                    return Fail(FrameError.ControlCharacter, position, out error);
            }

            position++;
        }

        return position;
    }

    private int Fail(FrameError cause, int position, out FrameError error)
    {
        error = cause;
        this = new JsonFramer { _recovering = true };
        return position + 1;
    }

    private static bool IsForbidden(byte value) => value is < 0x20 or 0xFE or 0xFF;

    private static IEnumerable<byte> Forbidden(bool allowLayout) =>
        Enumerable.Range(0, 256).Select(b => (byte)b)
            .Where(b => IsForbidden(b) && !(allowLayout && b is (byte)'\t' or (byte)'\r' or (byte)'\n'));
}
