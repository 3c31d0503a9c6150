using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace CprSharp.Iommufd.Journal;

/// <summary>Writes fields one after the other.</summary>
internal sealed class FieldWriter
{
    private readonly ArrayBufferWriter<byte> _buffer = new(128);

    internal ReadOnlySpan<byte> Written => _buffer.WrittenSpan;

    internal FieldWriter U16(ushort value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(Advance(2), value);
        return this;
    }

    internal FieldWriter U32(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(Advance(4), value);
        return this;
    }

    internal FieldWriter U64(ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(Advance(8), value);
        return this;
    }

    /// <summary>A flag, then the value.</summary>
    internal FieldWriter Optional(ulong? value) => U32(value is null ? 0u : 1).U64(value ?? 0);

    internal FieldWriter Text(string value)
    {
        var bytes = Encoding.UTF8.GetBytes(value);
        U32((uint)bytes.Length);
        bytes.CopyTo(Advance(bytes.Length));
        return this;
    }

    private Span<byte> Advance(int count)
    {
        var span = _buffer.GetSpan(count)[..count];
        _buffer.Advance(count);
        return span;
    }
}

/// <summary>Reads fields one after the other. Behind the end everything is zero: an older version did not write it.</summary>
internal ref struct FieldReader(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;

    internal ushort U16() => (ushort)Take(sizeof(ushort));

    internal uint U32() => (uint)Take(sizeof(uint));

    internal ulong U64() => Take(sizeof(ulong));

    internal ulong? Optional()
    {
        var present = U32() != 0;
        var value = U64();
        return present ? value : null;
    }

    internal string Text()
    {
        var length = U32();
        if (length > _rest.Length)
            throw new InvalidDataException($"A text of {length} bytes in a record that has {_rest.Length} left.");
        var text = Encoding.UTF8.GetString(_rest[..(int)length]);
        _rest = _rest[(int)length..];
        return text;
    }

    /// <summary>How many items of a size are left, at most; guards counts that were read.</summary>
    internal readonly int Room(int itemBytes) => _rest.Length / itemBytes;

    private ulong Take(int bytes)
    {
        var there = Math.Min(bytes, _rest.Length);
        ulong value = 0;
        for (var i = 0; i < there; i++)
            value |= (ulong)_rest[i] << (8 * i);
        _rest = _rest[there..];
        return value;
    }
}
