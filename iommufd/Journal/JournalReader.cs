using System.Buffers.Binary;
using System.Collections.Immutable;
using CprSharp.Iommufd.Model;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Journal;

/// <summary>What a journal says.</summary>
/// <param name="Major">Its version.</param>
/// <param name="Minor">Its version.</param>
/// <param name="Picture">What is in the context, by all calls whose end is known.</param>
/// <param name="Unsettled">Calls whose end is not known, because the process died in them. Look into the kernel for what they are about.</param>
/// <param name="Torn">Whether the last record was incomplete.</param>
/// <param name="Length">Bytes up to the last complete record.</param>
/// <param name="LastSequence">The number of the last call.</param>
public sealed record JournalContent(
    ushort Major,
    ushort Minor,
    AddressSpaces Picture,
    ImmutableArray<UnsettledOperation> Unsettled,
    bool Torn,
    long Length,
    ulong LastSequence);

/// <summary>Reads journals. Pure but for reading the file.</summary>
public static class JournalReader
{
    /// <summary>Reads a file.</summary>
    /// <exception cref="JournalException">It is no journal, of a newer major version, or damaged before its end.</exception>
    public static JournalContent Read(SafeFileHandle file)
    {
        var bytes = new byte[RandomAccess.GetLength(file)];
        var filled = 0;
        while (filled < bytes.Length)
        {
            var count = RandomAccess.Read(file, bytes.AsSpan(filled), filled);
            if (count == 0)
                break;
            filled += count;
        }

        return Parse(bytes.AsSpan(0, filled));
    }

    /// <summary>Reads bytes.</summary>
    /// <exception cref="JournalException">They are no journal, of a newer major version, or damaged before their end.</exception>
    public static JournalContent Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length < JournalFormat.HeaderBytes || !bytes.StartsWith(JournalFormat.Magic))
            throw new JournalException("it does not begin like a journal");
        var header = new FieldReader(bytes[JournalFormat.Magic.Length..JournalFormat.HeaderBytes]);
        var (major, minor, headerBytes) = (header.U16(), header.U16(), header.U32());
        if (major > JournalFormat.Major)
            throw new JournalException($"it is of version {major}.{minor}; this program reads up to {JournalFormat.Major}.x: use the newer program");
        if (headerBytes < JournalFormat.HeaderBytes || headerBytes > bytes.Length)
            throw new JournalException($"a header of {headerBytes} bytes");

        var picture = AddressSpaces.Empty;
        var open = ImmutableSortedDictionary<ulong, Operation>.Empty;
        ulong last = 0;
        var at = (int)headerBytes;
        while (NextRecord(bytes, at) is { } length)
        {
            var record = bytes.Slice(at, length);
            var kind = (RecordKind)BinaryPrimitives.ReadUInt16LittleEndian(record[4..]);
            var sequence = BinaryPrimitives.ReadUInt64LittleEndian(record[8..]);
            var body = new FieldReader(record[JournalFormat.RecordHeaderBytes..^JournalFormat.ChecksumBytes]);
            try
            {
                (picture, open) = Take(picture, open, kind, sequence, ref body);
            }
            catch (Exception e) when (e is InvalidDataException or InconsistentRecordException or ArgumentOutOfRangeException)
            {
                throw new JournalException($"record {sequence} at byte {at}: {e.Message}", e);
            }

            last = Math.Max(last, sequence);
            at += length;
        }

        return new JournalContent(
            major, minor, picture, [.. open.Select(one => new UnsettledOperation(one.Key, one.Value))], at < bytes.Length, at, last);
    }

    private static (AddressSpaces Picture, ImmutableSortedDictionary<ulong, Operation> Open) Take(
        AddressSpaces picture, ImmutableSortedDictionary<ulong, Operation> open, RecordKind kind, ulong sequence, ref FieldReader body)
    {
        switch (kind)
        {
            case RecordKind.Done or RecordKind.Failed when !open.ContainsKey(sequence):
                throw new InvalidDataException("the end of a call that never began");
            case RecordKind.Done:
                return (picture.Apply(open[sequence], body.U64()), open.Remove(sequence));
            case RecordKind.Failed:
                return (picture, open.Remove(sequence));
        }

        if (RecordCodec.Decode(kind, ref body) is { } operation)
            return open.ContainsKey(sequence) ? throw new InvalidDataException("a number that is taken") : (picture, open.Add(sequence, operation));
        return (ushort)kind >= JournalFormat.FirstSkippableKind
            ? (picture, open)
            : throw new InvalidDataException($"unknown kind 0x{(ushort)kind:x}, written by a newer program");
    }

    /// <returns>The record's length; null at the end, torn or not.</returns>
    private static int? NextRecord(ReadOnlySpan<byte> bytes, int at)
    {
        const int smallest = JournalFormat.RecordHeaderBytes + JournalFormat.ChecksumBytes;
        var rest = bytes[at..];
        if (rest.Length < smallest)
            return null;
        var length = BinaryPrimitives.ReadUInt32LittleEndian(rest);
        if (length is < smallest or > JournalFormat.MaxRecordBytes)
            throw new JournalException($"a record of {length} bytes at byte {at}");
        if (length > rest.Length)
            return null;
        var end = (int)length - JournalFormat.ChecksumBytes;
        if (BinaryPrimitives.ReadUInt32LittleEndian(rest[end..]) == Crc32C.Compute(rest[..end]))
            return (int)length;
        // A last record whose length is there and whose rest is not has been torn; one in the middle has been damaged.
        return length == rest.Length ? null : throw new JournalException($"a wrong checksum at byte {at}");
    }
}

/// <summary>A journal cannot be used.</summary>
/// <param name="reason">Why.</param>
/// <param name="inner">What led to it.</param>
public sealed class JournalException(string reason, Exception? inner = null) : IOException($"Journal: {reason}.", inner);
