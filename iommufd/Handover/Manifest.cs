using System.Collections.Immutable;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Handover;

/// <summary>
/// The list that goes with the descriptors, in their order: magic "CPRHBOX1", pid u32, start time u64, entries u32, then for each meaning u32,
/// kind u32, device u32+u32, inode u64, number u32 (across an exec, else 0), name (length u32, UTF-8); CRC-32C u32 at the end.
/// </summary>
/// <param name="Pid">Who may open it across an exec; 0 for a box that is sent.</param>
/// <param name="StartTime">That process's start, in ticks since boot: a number is used again, this is not.</param>
/// <param name="Entries">The descriptors.</param>
/// <param name="Numbers">Their numbers across an exec; empty for a box that is sent.</param>
internal sealed record Manifest(int Pid, long StartTime, ImmutableArray<HandoverEntry> Entries, ImmutableArray<int> Numbers)
{
    private static ReadOnlySpan<byte> Magic => "CPRHBOX1"u8;

    internal byte[] Encode()
    {
        var body = new FieldWriter().U32((uint)Pid).U64((ulong)StartTime).U32((uint)Entries.Length);
        for (var i = 0; i < Entries.Length; i++)
        {
            var entry = Entries[i];
            body.U32((uint)entry.Meaning).U32((uint)entry.Kind).U32(entry.File.Device.Major).U32(entry.File.Device.Minor).U64(entry.File.Inode)
                .U32((uint)(Numbers.IsEmpty ? 0 : Numbers[i])).Text(entry.Name);
        }

        byte[] bytes = [.. Magic, .. body.Written];
        return [.. bytes, .. new FieldWriter().U32(Crc32C.Compute(bytes)).Written];
    }

    /// <exception cref="InvalidDataException">It is no manifest, or damaged.</exception>
    internal static Manifest Decode(ReadOnlySpan<byte> bytes)
    {
        const int entryBytes = 32;
        if (bytes.Length < Magic.Length + 4 || !bytes.StartsWith(Magic) || new FieldReader(bytes[^4..]).U32() != Crc32C.Compute(bytes[..^4]))
            throw new InvalidDataException("This is no hand-over box, or it is damaged.");
        var reader = new FieldReader(bytes[Magic.Length..^4]);
        var (pid, start, count) = ((int)reader.U32(), (long)reader.U64(), reader.U32());
        if (count > reader.Room(entryBytes))
            throw new InvalidDataException($"A hand-over box with {count} entries in {bytes.Length} bytes.");
        var entries = ImmutableArray.CreateBuilder<HandoverEntry>();
        var numbers = ImmutableArray.CreateBuilder<int>();
        for (var i = 0; i < count; i++)
        {
            var (meaning, kind) = ((HandoverMeaning)reader.U32(), (DescriptorKind)reader.U32());
            var file = new FileIdentity(new DeviceNumber(reader.U32(), reader.U32()), reader.U64());
            numbers.Add((int)reader.U32());
            entries.Add(new HandoverEntry(reader.Text(), meaning, kind, file));
        }

        return new Manifest(pid, start, entries.ToImmutable(), pid == 0 ? [] : numbers.ToImmutable());
    }
}
