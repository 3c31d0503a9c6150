using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>The interface of a VFIO container, which an iommufd speaks as well, for one address space. It maps by virtual address only.</summary>
public sealed partial class IommufdContext
{
    /// <summary>The address space that the container's calls work on; null when none is set.</summary>
    public unsafe IoasId? GetCompatIoas()
    {
        var argument = Compat(LibC.IOMMU_VFIO_IOAS_GET, 0);
        return _channel.Try(LibC.IOMMU_VFIO_IOAS, &argument) switch
        {
            0 => new IoasId(argument.ioas_id),
            Errno.ENODEV => null,
            var errno => throw new IommufdException("IOMMU_VFIO_IOAS", "context", null, errno),
        };
    }

    /// <summary>Sets or clears the address space that the container's calls work on; destroys none.</summary>
    public unsafe void SetCompatIoas(IoasId? ioas)
    {
        var argument = Compat(ioas is null ? LibC.IOMMU_VFIO_IOAS_CLEAR : LibC.IOMMU_VFIO_IOAS_SET, ioas?.Value ?? 0);
        _channel.Change("IOMMU_VFIO_IOAS", LibC.IOMMU_VFIO_IOAS, &argument, ioas?.ToString() ?? "context", null, new SetCompatIoasOperation(ioas));
    }

    /// <summary>VFIO_GET_API_VERSION: 0.</summary>
    public unsafe int GetCompatApiVersion() => _channel.Query("VFIO_GET_API_VERSION", LibC.VFIO_GET_API_VERSION, 0);

    /// <summary>VFIO_CHECK_EXTENSION.</summary>
    /// <param name="extension">VFIO_TYPE1v2_IOMMU is 3, VFIO_UNMAP_ALL 9, VFIO_UPDATE_VADDR 10 (which an iommufd has not).</param>
    public unsafe bool HasCompatExtension(uint extension) => _channel.Query("VFIO_CHECK_EXTENSION", LibC.VFIO_CHECK_EXTENSION, extension) != 0;

    /// <summary>VFIO_SET_IOMMU.</summary>
    /// <param name="type">1 for type1, 3 for type1 v2.</param>
    public void SetCompatIommu(uint type) => _channel.Query("VFIO_SET_IOMMU", LibC.VFIO_SET_IOMMU, type);

    /// <summary>VFIO_IOMMU_GET_INFO.</summary>
    /// <returns>The page sizes: bit N stands for 2^N bytes.</returns>
    public unsafe ulong GetCompatPageSizes()
    {
        var argument = new LibC.vfio_iommu_type1_info { argsz = (uint)sizeof(LibC.vfio_iommu_type1_info) };
        _channel.Ask("VFIO_IOMMU_GET_INFO", LibC.VFIO_IOMMU_GET_INFO, &argument, "container");
        return argument.iova_pgsizes;
    }

    /// <summary>VFIO_IOMMU_MAP_DMA: maps this process's virtual addresses.</summary>
    /// <exception cref="IommufdException">ENODEV: no compatibility IOAS; EINVAL, EEXIST, ENOMEM as for <see cref="Map"/>.</exception>
    public unsafe void CompatMap(nint address, IovaRange range, MapAccess access)
    {
        var argument = new LibC.vfio_iommu_type1_dma_map
        {
            argsz = (uint)sizeof(LibC.vfio_iommu_type1_dma_map),
            flags = (access.HasFlag(MapAccess.Read) ? LibC.VFIO_DMA_MAP_FLAG_READ : 0) | (access.HasFlag(MapAccess.Write) ? LibC.VFIO_DMA_MAP_FLAG_WRITE : 0),
            vaddr = (ulong)address,
            iova = range.Start,
            size = range.Length,
        };
        var ioas = CompatTarget();
        var operation = new MapOperation(ioas, range.Start, range.Length, access, new VirtualBacking(Environment.ProcessId, (ulong)address));
        _channel.Change("VFIO_IOMMU_MAP_DMA", LibC.VFIO_IOMMU_MAP_DMA, &argument, "container", range, operation, &argument.iova);
    }

    /// <summary>VFIO_IOMMU_UNMAP_DMA.</summary>
    /// <param name="range">Holds whole areas; <see cref="IovaRange.All"/> for everything.</param>
    /// <returns>Bytes unmapped.</returns>
    public unsafe ulong CompatUnmap(IovaRange range)
    {
        var all = range == IovaRange.All;
        var argument = new LibC.vfio_iommu_type1_dma_unmap
        {
            argsz = (uint)sizeof(LibC.vfio_iommu_type1_dma_unmap),
            flags = all ? LibC.VFIO_DMA_UNMAP_FLAG_ALL : 0,
            iova = range.Start,
            size = all ? 0 : range.Length,
        };
        _channel.Change(
            "VFIO_IOMMU_UNMAP_DMA",
            LibC.VFIO_IOMMU_UNMAP_DMA,
            &argument,
            "container",
            range,
            new UnmapOperation(CompatTarget(), range),
            &argument.size);
        return argument.size;
    }

    /// <summary>What the recorder shall write down; without one nobody needs to know.</summary>
    private IoasId CompatTarget() => Recorder is null ? default : GetCompatIoas() ?? default;

    private static unsafe LibC.iommu_vfio_ioas Compat(ushort op, uint id) => new()
    {
        size = (uint)sizeof(LibC.iommu_vfio_ioas),
        ioas_id = id,
        op = op,
    };
}
