using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>Address spaces and what is mapped in them.</summary>
public sealed partial class IommufdContext
{
    /// <summary>Makes an empty I/O address space.</summary>
    /// <exception cref="IommufdException">ENOMEM.</exception>
    public unsafe IoasId AllocateIoas()
    {
        var argument = new LibC.iommu_ioas_alloc { size = (uint)sizeof(LibC.iommu_ioas_alloc) };
        _channel.Change(
            "IOMMU_IOAS_ALLOC", LibC.IOMMU_IOAS_ALLOC, &argument, "context", null, new AllocateIoasOperation(), &argument.out_ioas_id);
        return new IoasId(argument.out_ioas_id);
    }

    /// <summary>Guarantees that addresses stay usable whatever is attached. Replaces the whole list.</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="ranges">Disjoint; empty to lift the restriction.</param>
    /// <exception cref="IommufdException">EINVAL: they overlap; EADDRINUSE: a device reserves some of them.</exception>
    public unsafe void AllowIovas(IoasId ioas, params ReadOnlySpan<IovaRange> ranges)
    {
        // Kernel and library lay a range out alike: first and last address.
        fixed (IovaRange* list = ranges)
        {
            var argument = new LibC.iommu_ioas_allow_iovas
            {
                size = (uint)sizeof(LibC.iommu_ioas_allow_iovas),
                ioas_id = ioas.Value,
                num_iovas = (uint)ranges.Length,
                allowed_iovas = (ulong)list,
            };
            _channel.Change(
                "IOMMU_IOAS_ALLOW_IOVAS",
                LibC.IOMMU_IOAS_ALLOW_IOVAS,
                &argument,
                $"{ioas}, {ranges.Length} ranges",
                null,
                new AllowIovasOperation(ioas, [.. ranges]));
        }
    }

    /// <summary>What can be mapped now.</summary>
    public unsafe UsableIovas GetUsableIovas(IoasId ioas)
    {
        var ranges = new IovaRange[16];
        while (true)
        {
            fixed (IovaRange* list = ranges)
            {
                var argument = new LibC.iommu_ioas_iova_ranges
                {
                    size = (uint)sizeof(LibC.iommu_ioas_iova_ranges),
                    ioas_id = ioas.Value,
                    num_iovas = (uint)ranges.Length,
                    allowed_iovas = (ulong)list,
                };
                var errno = _channel.Try(LibC.IOMMU_IOAS_IOVA_RANGES, &argument);
                if (errno == 0)
                    return new UsableIovas(ranges[..(int)argument.num_iovas], argument.out_iova_alignment);
                if (errno != ErrnoNumbers.EMSGSIZE)
                    throw new IommufdException("IOMMU_IOAS_IOVA_RANGES", ioas.ToString(), null, errno);
                ranges = new IovaRange[argument.num_iovas];
            }
        }
    }

    /// <summary>Whether the id is an IOAS of this context. The only way to find those that another process made.</summary>
    /// <param name="id">Ids begin at 1 and are given out in ascending order.</param>
    public unsafe bool HasIoas(uint id)
    {
        // Room for no range: all that is asked for is whether there are any. Without an exception, since most ids are none.
        var argument = new LibC.iommu_ioas_iova_ranges { size = (uint)sizeof(LibC.iommu_ioas_iova_ranges), ioas_id = id };
        return _channel.Try(LibC.IOMMU_IOAS_IOVA_RANGES, &argument) switch
        {
            0 or ErrnoNumbers.EMSGSIZE => true,
            Errno.ENOENT => false,
            var errno => throw new IommufdException("IOMMU_IOAS_IOVA_RANGES", $"object {id}", null, errno),
        };
    }

    /// <summary>Maps memory of this process by its virtual address. Such areas cannot be handed over: prefer <see cref="MapFile"/>.</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="address">Where it is in this process.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="access">What devices may do.</param>
    /// <param name="iova">Where devices see it; null to let the kernel choose.</param>
    /// <returns>Where devices see it.</returns>
    /// <exception cref="IommufdException">EEXIST, EINVAL, ENOSPC, ENOMEM (RLIMIT_MEMLOCK), EFAULT; see <see cref="ErrnoAdvice"/>.</exception>
    public unsafe ulong Map(IoasId ioas, nint address, ulong length, MapAccess access, ulong? iova = null)
    {
        var argument = new LibC.iommu_ioas_map
        {
            size = (uint)sizeof(LibC.iommu_ioas_map),
            flags = Flags(access, iova),
            ioas_id = ioas.Value,
            user_va = (ulong)address,
            length = length,
            iova = iova ?? 0,
        };
        var operation = new MapOperation(ioas, iova, length, access, new VirtualBacking(Environment.ProcessId, (ulong)address));
        var errno = _channel.TryChange(LibC.IOMMU_IOAS_MAP, &argument, operation, &argument.iova);
        return errno == 0
            ? argument.iova
            : throw new IommufdException("IOMMU_IOAS_MAP", $"{ioas}, {length} bytes", Range(iova, length), errno);
    }

    /// <summary>Maps part of a memory file, or of a dma-buf that VFIO exported.</summary>
    /// <remarks>
    /// The kernel looks at the file only when memory is pinned, which is when a device is attached, now or later; and it checks
    /// neither seals nor whether the descriptor may be written to. <see cref="MappableFile.Inspect"/> does.
    /// </remarks>
    /// <param name="ioas">The address space.</param>
    /// <param name="file">The file; may be closed afterwards, the area keeps the memory alive.</param>
    /// <param name="offset">Bytes into the file.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="access">What devices may do.</param>
    /// <param name="iova">Where devices see it; null to let the kernel choose.</param>
    /// <returns>Where devices see it.</returns>
    /// <exception cref="IommufdException">EEXIST, EINVAL, ENOSPC, ENOMEM (RLIMIT_MEMLOCK), EBADF; see <see cref="ErrnoAdvice"/>.</exception>
    public unsafe ulong MapFile(IoasId ioas, MappableFile file, ulong offset, ulong length, MapAccess access, ulong? iova = null)
    {
        ArgumentNullException.ThrowIfNull(file);
        using var lease = new HandleLease(file.Handle);
        var argument = new LibC.iommu_ioas_map_file
        {
            size = (uint)sizeof(LibC.iommu_ioas_map_file),
            flags = Flags(access, iova),
            ioas_id = ioas.Value,
            fd = lease.Number,
            start = offset,
            length = length,
            iova = iova ?? 0,
        };
        var operation = new MapOperation(ioas, iova, length, access, file.BackingAt(offset));
        var errno = _channel.TryChange(LibC.IOMMU_IOAS_MAP_FILE, &argument, operation, &argument.iova);
        return errno == 0
            ? argument.iova
            : throw new IommufdException("IOMMU_IOAS_MAP_FILE", $"{ioas}, {file}, {length} bytes from 0x{offset:x}", Range(iova, length), errno);
    }

    /// <summary>Maps what is mapped elsewhere in this context. Both share one pin of the memory, and what kind of mapping it is.</summary>
    /// <param name="source">From.</param>
    /// <param name="range">What; any part of what is mapped without a gap.</param>
    /// <param name="target">To; may be the same.</param>
    /// <param name="access">What devices may do.</param>
    /// <param name="iova">Where in the target; null to let the kernel choose.</param>
    /// <returns>Where in the target.</returns>
    /// <exception cref="IommufdException">ENOENT: a hole; EPERM: write access to read-only memory; EEXIST, EINVAL, ENOSPC, ENOMEM.</exception>
    public unsafe ulong Copy(IoasId source, IovaRange range, IoasId target, MapAccess access, ulong? iova = null)
    {
        var argument = CopyArgument(source, range, target, access, iova);
        var operation = new CopyOperation(source, range.Start, target, iova, range.Length, access);
        var errno = _channel.TryChange(LibC.IOMMU_IOAS_COPY, &argument, operation, &argument.dst_iova);
        return errno == 0 ? argument.dst_iova : throw new IommufdException("IOMMU_IOAS_COPY", $"{source} to {target}", range, errno);
    }

    /// <summary>Unmaps whole areas.</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="range">Holds them; <see cref="IovaRange.All"/> for everything.</param>
    /// <returns>Bytes unmapped.</returns>
    /// <exception cref="IommufdException">ENOENT: nothing there, or an area reaches beyond the range; EBUSY.</exception>
    public unsafe ulong Unmap(IoasId ioas, IovaRange range)
    {
        var argument = new LibC.iommu_ioas_unmap
        {
            size = (uint)sizeof(LibC.iommu_ioas_unmap),
            ioas_id = ioas.Value,
            iova = range.Start,
            length = range == IovaRange.All ? ulong.MaxValue : range.Length,
        };
        var errno = _channel.TryChange(LibC.IOMMU_IOAS_UNMAP, &argument, new UnmapOperation(ioas, range), &argument.length);
        return errno == 0 ? argument.length : throw new IommufdException("IOMMU_IOAS_UNMAP", ioas.ToString(), range, errno);
    }

    /// <summary>The physical address behind an address, for devices without an IOMMU (Linux 7.3, CAP_SYS_RAWIO).</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="range">What to look up.</param>
    /// <returns>The physical address, and for how many bytes it goes on without a break.</returns>
    /// <exception cref="IommufdException">EPERM, ENOENT (not mapped), EOPNOTSUPP (there is an IOMMU), ENOTTY.</exception>
    public unsafe (ulong Physical, ulong Length) GetPhysicalAddress(IoasId ioas, IovaRange range)
    {
        var argument = new LibC.iommu_ioas_noiommu_get_pa
        {
            size = (uint)sizeof(LibC.iommu_ioas_noiommu_get_pa),
            ioas_id = ioas.Value,
            iova = range.Start,
            length = range.Length,
        };
        _channel.Ask("IOMMU_IOAS_NOIOMMU_GET_PA", LibC.IOMMU_IOAS_NOIOMMU_GET_PA, &argument, ioas.ToString(), range);
        return (argument.out_phys, argument.length);
    }

    /// <summary>Tries a copy and says why not; for probing, which expects refusals. Not recorded.</summary>
    /// <returns>0, or the error number.</returns>
    internal unsafe int TryCopy(IoasId source, IovaRange range, IoasId target, MapAccess access, ulong iova)
    {
        var argument = CopyArgument(source, range, target, access, iova);
        return _channel.Try(LibC.IOMMU_IOAS_COPY, &argument);
    }

    /// <summary>Unmaps in a scratch address space; not recorded.</summary>
    internal unsafe int TryUnmapAll(IoasId ioas)
    {
        var argument = new LibC.iommu_ioas_unmap { size = (uint)sizeof(LibC.iommu_ioas_unmap), ioas_id = ioas.Value, length = ulong.MaxValue };
        return _channel.Try(LibC.IOMMU_IOAS_UNMAP, &argument);
    }

    private static unsafe LibC.iommu_ioas_copy CopyArgument(IoasId source, IovaRange range, IoasId target, MapAccess access, ulong? iova) => new()
    {
        size = (uint)sizeof(LibC.iommu_ioas_copy),
        flags = Flags(access, iova),
        dst_ioas_id = target.Value,
        src_ioas_id = source.Value,
        length = range.Length,
        dst_iova = iova ?? 0,
        src_iova = range.Start,
    };

    private static uint Flags(MapAccess access, ulong? iova) => (uint)access | (iova is null ? 0 : LibC.IOMMU_IOAS_MAP_FIXED_IOVA);

    /// <summary>For messages: nothing where the numbers make no range, which the kernel is about to say.</summary>
    private static IovaRange? Range(ulong? iova, ulong length) =>
        iova is { } start && length > 0 && length - 1 <= ulong.MaxValue - start ? IovaRange.Of(start, length) : null;
}
