using System.Collections.Immutable;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Changes;

/// <summary>Part of an area, by file.</summary>
/// <param name="Range">Where devices see it.</param>
/// <param name="File">The file.</param>
/// <param name="Offset">Bytes into it.</param>
public sealed record FilePiece(IovaRange Range, FileIdentity File, ulong Offset);

/// <summary>An area, and what will be in its place.</summary>
/// <param name="Area">The area as it is.</param>
/// <param name="Pieces">Cover all of it, in order.</param>
public sealed record AreaReplacement(Area Area, ImmutableArray<FilePiece> Pieces);

/// <summary>Memory that cannot be expressed as file and offset, or must not be given to devices so.</summary>
/// <param name="Area">The area.</param>
/// <param name="Range">Which part of it.</param>
/// <param name="Refusal">Why.</param>
/// <param name="Memory">Its name: the path in the process's mappings, or what else it is called.</param>
public sealed record RemapRefusal(Area Area, IovaRange Range, FileRefusal Refusal, string Memory)
{
    /// <inheritdoc/>
    public override string ToString() => $"IOVA {Range}, {Memory}: {FileRules.Explain(Refusal)}";
}

/// <summary>A remapping as it would be done: all of it, or nothing.</summary>
/// <param name="Ioas">The address space.</param>
/// <param name="Replacements">Empty when there is nothing to do.</param>
/// <param name="Refusals">Empty when it can be done.</param>
public sealed record RemapPlan(IoasId Ioas, ImmutableArray<AreaReplacement> Replacements, ImmutableArray<RemapRefusal> Refusals)
{
    /// <summary>Whether nothing stands against it.</summary>
    public bool CanBeDone => Refusals.IsEmpty;
}

/// <summary>From virtual addresses to files. Pure.</summary>
public static class RemapPlanner
{
    /// <summary>Plans for all areas of an address space that are mapped by virtual address. Others are left as they are.</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="areas">Its areas.</param>
    /// <param name="pid">The process whose addresses they are.</param>
    /// <param name="maps">Its mappings, by address.</param>
    /// <param name="files">The files of which descriptors are at hand.</param>
    public static RemapPlan Plan(
        IoasId ioas, IEnumerable<Area> areas, int pid, IReadOnlyList<MapEntry> maps, IReadOnlyDictionary<FileIdentity, FileFacts> files)
    {
        ArgumentNullException.ThrowIfNull(areas);
        ArgumentNullException.ThrowIfNull(maps);
        ArgumentNullException.ThrowIfNull(files);
        var replacements = ImmutableArray.CreateBuilder<AreaReplacement>();
        var refusals = ImmutableArray.CreateBuilder<RemapRefusal>();
        foreach (var area in areas)
        {
            switch (area.Backing)
            {
                case VirtualBacking memory when memory.Pid == pid:
                    var pieces = Split(area, memory.Address, maps, files, refusals);
                    replacements.Add(new AreaReplacement(area, pieces));
                    break;
                case VirtualBacking memory:
                    refusals.Add(new RemapRefusal(area, area.Range, FileRefusal.OtherProcess, memory.ToString()));
                    break;
                case UnknownBacking:
                    refusals.Add(new RemapRefusal(area, area.Range, FileRefusal.Unknown, "unknown memory"));
                    break;
            }
        }

        return new RemapPlan(ioas, replacements.ToImmutable(), refusals.ToImmutable());
    }

    private static ImmutableArray<FilePiece> Split(
        Area area, ulong address, IReadOnlyList<MapEntry> maps, IReadOnlyDictionary<FileIdentity, FileFacts> files, ImmutableArray<RemapRefusal>.Builder refusals)
    {
        var pieces = ImmutableArray.CreateBuilder<FilePiece>();
        for (ulong done = 0; done < area.Range.Length;)
        {
            var at = address + done;
            var index = Find(maps, at);
            var map = index >= 0 ? maps[index] : null;
            // Up to the end of the mapping, or of the hole.
            var end = map?.End ?? (~index < maps.Count ? maps[~index].Start : ulong.MaxValue);
            var length = Math.Min(area.Range.Length - done, end - at);
            var range = IovaRange.Of(area.Range.Start + done, length);
            var file = map is null ? default : new FileIdentity(map.Device, map.Inode);
            var offset = map is null ? 0 : map.Offset + (at - map.Start);
            if (Check(map, file, files, area.Access, offset, length) is { } refusal)
                refusals.Add(new RemapRefusal(area, range, refusal, map?.Path ?? (map is null ? "a hole" : "anonymous memory")));
            else if (pieces.Count > 0 && pieces[^1] is var last && last.File == file && last.Offset + last.Range.Length == offset && last.Range.Last + 1 == range.Start)
                pieces[^1] = last with { Range = new IovaRange(last.Range.Start, range.Last) };
            else
                pieces.Add(new FilePiece(range, file, offset));
            done += length;
        }

        return pieces.ToImmutable();
    }

    private static FileRefusal? Check(
        MapEntry? map, FileIdentity file, IReadOnlyDictionary<FileIdentity, FileFacts> files, MapAccess access, ulong offset, ulong length)
    {
        if (map is null)
            return FileRefusal.NotMapped;
        if (map.Inode == 0)
            return FileRefusal.Anonymous;
        if (!map.Shared)
            return FileRefusal.PrivateMapping;
        return files.TryGetValue(file, out var facts) ? FileRules.Check(facts, access, offset, length) : FileRefusal.NoDescriptor;
    }

    /// <returns>The mapping that has the address, or the complement of the next one's index.</returns>
    private static int Find(IReadOnlyList<MapEntry> maps, ulong address)
    {
        var (low, high) = (0, maps.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (maps[middle].End <= address)
                low = middle + 1;
            else
                high = middle;
        }

        return low < maps.Count && maps[low].Start <= address ? low : ~low;
    }
}
