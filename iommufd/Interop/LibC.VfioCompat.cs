using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary>The part of vfio.h's container interface that an iommufd speaks (drivers/iommu/iommufd/vfio_compat.c).</summary>
internal static partial class LibC
{
    public const uint VFIO_GET_API_VERSION = 0x3b64;
    public const uint VFIO_CHECK_EXTENSION = 0x3b65;
    public const uint VFIO_SET_IOMMU = 0x3b66;
    public const uint VFIO_IOMMU_GET_INFO = 0x3b70;
    public const uint VFIO_IOMMU_MAP_DMA = 0x3b71;
    public const uint VFIO_IOMMU_UNMAP_DMA = 0x3b72;

    public const uint VFIO_TYPE1_IOMMU = 1;
    public const uint VFIO_TYPE1v2_IOMMU = 3;
    public const uint VFIO_DMA_CC_IOMMU = 4;
    public const uint VFIO_UNMAP_ALL = 9;
    public const uint VFIO_UPDATE_VADDR = 10;

    public const uint VFIO_IOMMU_INFO_PGSIZES = 1 << 0;
    public const uint VFIO_IOMMU_INFO_CAPS = 1 << 1;
    public const uint VFIO_DMA_MAP_FLAG_READ = 1 << 0;
    public const uint VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;
    public const uint VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1;

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct vfio_iommu_type1_info
    {
        public uint argsz;
        public uint flags;
        public ulong iova_pgsizes;
        public uint cap_offset;
        public uint pad;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct vfio_iommu_type1_dma_map
    {
        public uint argsz;
        public uint flags;
        public ulong vaddr;
        public ulong iova;
        public ulong size;
    }

    /// <summary>Followed by data that only a real container uses.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct vfio_iommu_type1_dma_unmap
    {
        public uint argsz;
        public uint flags;
        public ulong iova;
        public ulong size;
    }
}
