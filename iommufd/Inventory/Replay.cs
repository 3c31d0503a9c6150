using System.Collections.Immutable;
using CprSharp.Iommufd.Model;

namespace CprSharp.Iommufd.Inventory;

/// <summary>What a replay has made.</summary>
/// <param name="Ioases">Address spaces of the picture to the new ones.</param>
public sealed record ReplayResult(ImmutableDictionary<IoasId, IoasId> Ioases);

/// <summary>Makes the address spaces of a picture in another, empty context.</summary>
public static class Replay
{
    /// <summary>Makes them. Devices, page tables and queues are the caller's to make again: they need their descriptors.</summary>
    /// <param name="picture">What there was.</param>
    /// <param name="context">An empty context. It can be thrown away when this fails.</param>
    /// <param name="files">Finds the descriptor of a memory file or dma-buf; for a dma-buf it may be a newly exported one of the same BAR.</param>
    /// <exception cref="FileRefusedException">An area cannot be made again: its file is not at hand, it is memory of another process, or nobody knows what it is.</exception>
    /// <exception cref="IommufdException">The kernel refused.</exception>
    public static ReplayResult Into(AddressSpaces picture, IommufdContext context, Func<FileIdentity, MappableFile?> files)
    {
        ArgumentNullException.ThrowIfNull(picture);
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(files);
        if (picture.AccountPerProcess)
            context.SetOption(ContextOption.AccountPerProcess, 1);
        var ids = picture.Ioases.Values.ToImmutableDictionary(ioas => ioas.Id, ioas => Make(context, ioas));
        foreach (var group in picture.Areas.GroupBy(one => one.Area.Pages))
        {
            if (group.Key != 0 && group.Skip(1).Any())
                MapShared(context, [.. group], ids, files);
            else
            {
                foreach (var (ioas, area) in group)
                    Map(context, ids[ioas], area.Backing, area.Range.Length, area.Access, area.Range.Start, files);
            }
        }

        if (picture.Compat is { } compat && ids.TryGetValue(compat, out var target))
            context.SetCompatIoas(target);
        return new ReplayResult(ids);
    }

    private static IoasId Make(IommufdContext context, AddressSpace ioas)
    {
        var id = context.AllocateIoas();
        if (!ioas.HugePages)
            context.SetOption(ContextOption.HugePages, 0, id);
        if (!ioas.Allowed.IsEmpty)
            context.AllowIovas(id, ioas.Allowed.AsSpan());
        return id;
    }

    /// <summary>Areas that shared a pin get one again: all of the memory is mapped aside, and copied to where it belongs.</summary>
    private static void MapShared(
        IommufdContext context, IReadOnlyList<(IoasId Ioas, Area Area)> areas, ImmutableDictionary<IoasId, IoasId> ids, Func<FileIdentity, MappableFile?> files)
    {
        var first = areas.MinBy(one => Position(one.Area.Backing));
        var start = Position(first.Area.Backing);
        var end = areas.Max(one => Position(one.Area.Backing) + one.Area.Range.Length);
        var access = areas.Aggregate(MapAccess.None, (all, one) => all | one.Area.Access);
        var aside = context.AllocateIoas();
        try
        {
            var iova = Map(context, aside, first.Area.Backing, end - start, access, null, files);
            foreach (var (ioas, area) in areas)
            {
                var source = IovaRange.Of(iova + (Position(area.Backing) - start), area.Range.Length);
                context.Copy(aside, source, ids[ioas], area.Access, area.Range.Start);
            }
        }
        finally
        {
            context.Destroy(aside);
        }
    }

    /// <summary>Where in its file, dma-buf or process it begins.</summary>
    internal static ulong Position(Backing backing) => backing switch
    {
        FileBacking file => file.Offset,
        DmaBufBacking buffer => buffer.Offset,
        VirtualBacking memory => memory.Address,
        _ => throw new FileRefusedException(backing.ToString()!, FileRefusal.Unknown),
    };

    private static ulong Map(
        IommufdContext context, IoasId ioas, Backing backing, ulong length, MapAccess access, ulong? iova, Func<FileIdentity, MappableFile?> files) => backing switch
        {
            FileBacking file => context.MapFile(ioas, Find(file.File, files), file.Offset, length, access, iova),
            DmaBufBacking buffer => context.MapFile(ioas, Find(buffer.Buffer, files), buffer.Offset, length, access, iova),
            VirtualBacking memory when memory.Pid == Environment.ProcessId => context.Map(ioas, (nint)memory.Address, length, access, iova),
            VirtualBacking => throw new FileRefusedException(backing.ToString(), FileRefusal.OtherProcess),
            _ => throw new FileRefusedException(backing.ToString()!, FileRefusal.Unknown),
        };

    private static MappableFile Find(FileIdentity identity, Func<FileIdentity, MappableFile?> files) =>
        files(identity) ?? throw new FileRefusedException(identity.ToString(), FileRefusal.NoDescriptor);
}
