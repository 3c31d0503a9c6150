using System.Buffers.Binary;
using CprSharp.Iommufd.Model;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Journal;

/// <summary>
/// Appends what goes through the library to a file, best a memfd, which is handed over together with the context. Each record is
/// one write, so that a crash can tear only the last one.
/// </summary>
/// <remarks>
/// May be used by several threads. Does not own the file. The end of a call that cannot be written down (no space, no memory) is written
/// before the next record: until then a reader finds the call unsettled, and no other call can begin.
/// </remarks>
public sealed class JournalWriter : IOperationRecorder
{
    private readonly Lock _gate = new();
    private readonly SafeFileHandle _file;
    private readonly Queue<byte[]> _owed = new();
    private long _end;
    private ulong _next;

    private JournalWriter(SafeFileHandle file, long end, ulong next)
    {
        _file = file;
        _end = end;
        _next = next;
    }

    /// <summary>Begins a journal.</summary>
    /// <param name="file">An empty file, readable and writable; stays the caller's.</param>
    /// <exception cref="IOException">The file is not empty, or cannot be written to.</exception>
    public static JournalWriter Create(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (RandomAccess.GetLength(file) != 0)
            throw new IOException("The file holds something already; continue it, or give an empty one.");
        var header = new FieldWriter().U16(JournalFormat.Major).U16(JournalFormat.Minor).U32(JournalFormat.HeaderBytes);
        RandomAccess.Write(file, [.. JournalFormat.Magic, .. header.Written], 0);
        return new JournalWriter(file, JournalFormat.HeaderBytes, 1);
    }

    /// <summary>Goes on with a journal that another process began. A torn last record is cut off; what it was about stays unsettled.</summary>
    /// <param name="file">The journal, readable and writable; stays the caller's.</param>
    /// <param name="sofar">What is in it.</param>
    /// <exception cref="JournalException">It is no journal, damaged, or of another version: its format must not be mixed.</exception>
    public static JournalWriter Continue(SafeFileHandle file, out JournalContent sofar)
    {
        sofar = JournalReader.Read(file);
        if (sofar.Major != JournalFormat.Major || sofar.Minor > JournalFormat.Minor)
            throw new JournalException($"version {sofar.Major}.{sofar.Minor} can be read, but not continued as {JournalFormat.Major}.{JournalFormat.Minor}");
        RandomAccess.SetLength(file, sofar.Length);
        return new JournalWriter(file, sofar.Length, sofar.LastSequence + 1);
    }

    /// <inheritdoc/>
    /// <exception cref="IOException">It cannot be written down, or what is owed from an earlier call cannot.</exception>
    /// <exception cref="UnauthorizedAccessException">The same, because the file is sealed.</exception>
    public ulong Begin(Operation operation)
    {
        ArgumentNullException.ThrowIfNull(operation);
        var body = new FieldWriter();
        var kind = RecordCodec.Encode(operation, body);
        lock (_gate)
        {
            var sequence = _next;
            _owed.Enqueue(Record(kind, sequence, body.Written));
            try
            {
                WriteOwed();
            }
            catch
            {
                RemoveLast();
                throw;
            }

            _next++;
            return sequence;
        }
    }

    /// <inheritdoc/>
    public void Done(ulong sequence, ulong answer)
    {
        End(RecordKind.Done, sequence, new FieldWriter().U64(answer).Written);
    }

    /// <inheritdoc/>
    public void Failed(ulong sequence, int errno)
    {
        End(RecordKind.Failed, sequence, new FieldWriter().U32((uint)errno).Written);
    }

    internal static byte[] Record(RecordKind kind, ulong sequence, ReadOnlySpan<byte> body)
    {
        var record = new byte[JournalFormat.RecordHeaderBytes + body.Length + JournalFormat.ChecksumBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(record, (uint)record.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(record.AsSpan(4), (ushort)kind);
        BinaryPrimitives.WriteUInt64LittleEndian(record.AsSpan(8), sequence);
        body.CopyTo(record.AsSpan(JournalFormat.RecordHeaderBytes));
        var end = record.Length - JournalFormat.ChecksumBytes;
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(end), Crc32C.Compute(record.AsSpan(0, end)));
        return record;
    }

    private void End(RecordKind kind, ulong sequence, ReadOnlySpan<byte> body)
    {
        lock (_gate)
        {
            _owed.Enqueue(Record(kind, sequence, body));
            try
            {
                WriteOwed();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The call is made. It stays owed, and the next one does not begin without it.
            }
        }
    }

    private void WriteOwed()
    {
        while (_owed.TryPeek(out var record))
        {
            try
            {
                RandomAccess.Write(_file, record, _end);
            }
            catch
            {
                // No torn record in the middle.
                if (RandomAccess.GetLength(_file) > _end)
                    RandomAccess.SetLength(_file, _end);
                throw;
            }

            _end += record.Length;
            _owed.Dequeue();
        }
    }

    /// <summary>A call that did not begin is owed nothing.</summary>
    private void RemoveLast()
    {
        for (var left = _owed.Count; left > 1; left--)
            _owed.Enqueue(_owed.Dequeue());
        _owed.Dequeue();
    }
}
