using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>An entry of systemd's journal as its native protocol wants it: fields, each a line, or with its length when it has several lines.</summary>
internal sealed class JournalEntry
{
    private readonly ArrayBufferWriter<byte> _bytes = new(512);

    public ReadOnlySpan<byte> Bytes => _bytes.WrittenSpan;

    public JournalEntry Add(string field, string value)
    {
        Write(field);
        if (value.Contains('\n', StringComparison.Ordinal))
        {
            Write("\n");
            BinaryPrimitives.WriteUInt64LittleEndian(_bytes.GetSpan(sizeof(ulong)), (ulong)Encoding.UTF8.GetByteCount(value));
            _bytes.Advance(sizeof(ulong));
        }
        else
        {
            Write("=");
        }

        Write(value);
        Write("\n");
        return this;
    }

    /// <summary>A field of ours: PauseMs is CPRSHARP_PAUSE_MS.</summary>
    public JournalEntry AddOwn(string name, string value)
    {
        var field = new StringBuilder("CPRSHARP");
        for (var i = 0; i < name.Length; i++)
        {
            if (i == 0 || char.IsAsciiLetterUpper(name[i]) && !char.IsAsciiLetterUpper(name[i - 1]))
                field.Append('_');
            if (char.IsAsciiLetterOrDigit(name[i]))
                field.Append(char.ToUpperInvariant(name[i]));
        }

        return Add(field.ToString(), value);
    }

    private void Write(string text) => Encoding.UTF8.GetBytes(text, _bytes);
}
