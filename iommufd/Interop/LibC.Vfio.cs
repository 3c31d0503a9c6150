using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary><c>include/uapi/linux/vfio.h</c> of Linux 7.3: what works on a device's descriptor. Requests are <c>_IO(';', 100 + nr)</c>.</summary>
internal static partial class LibC
{
    public const uint VFIO_DEVICE_GET_INFO = 0x3b6b;
    public const uint VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
    public const uint VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
    public const uint VFIO_DEVICE_SET_IRQS = 0x3b6e;
    public const uint VFIO_DEVICE_RESET = 0x3b6f;
    public const uint VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = 0x3b70;
    public const uint VFIO_DEVICE_PCI_HOT_RESET = 0x3b71;
    public const uint VFIO_DEVICE_FEATURE = 0x3b75;
    public const uint VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
    public const uint VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
    public const uint VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;

    public const uint VFIO_DEVICE_FLAGS_RESET = 1 << 0;
    public const uint VFIO_DEVICE_FLAGS_PCI = 1 << 1;
    public const uint VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2;
    public const uint VFIO_DEVICE_FLAGS_AMBA = 1 << 3;
    public const uint VFIO_DEVICE_FLAGS_CCW = 1 << 4;
    public const uint VFIO_DEVICE_FLAGS_AP = 1 << 5;
    public const uint VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6;
    public const uint VFIO_DEVICE_FLAGS_CAPS = 1 << 7;
    public const uint VFIO_DEVICE_FLAGS_CDX = 1 << 8;

    public const uint VFIO_REGION_INFO_FLAG_READ = 1 << 0;
    public const uint VFIO_REGION_INFO_FLAG_WRITE = 1 << 1;
    public const uint VFIO_REGION_INFO_FLAG_MMAP = 1 << 2;
    public const uint VFIO_REGION_INFO_FLAG_CAPS = 1 << 3;
    public const ushort VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;

    public const uint VFIO_PCI_BAR0_REGION_INDEX = 0;
    public const uint VFIO_PCI_BAR5_REGION_INDEX = 5;
    public const uint VFIO_PCI_ROM_REGION_INDEX = 6;
    public const uint VFIO_PCI_CONFIG_REGION_INDEX = 7;
    public const uint VFIO_PCI_VGA_REGION_INDEX = 8;
    public const uint VFIO_PCI_INTX_IRQ_INDEX = 0;
    public const uint VFIO_PCI_MSI_IRQ_INDEX = 1;
    public const uint VFIO_PCI_MSIX_IRQ_INDEX = 2;
    public const uint VFIO_PCI_ERR_IRQ_INDEX = 3;
    public const uint VFIO_PCI_REQ_IRQ_INDEX = 4;

    public const uint VFIO_IRQ_INFO_EVENTFD = 1 << 0;
    public const uint VFIO_IRQ_INFO_MASKABLE = 1 << 1;
    public const uint VFIO_IRQ_INFO_AUTOMASKED = 1 << 2;
    public const uint VFIO_IRQ_INFO_NORESIZE = 1 << 3;
    public const uint VFIO_IRQ_SET_DATA_NONE = 1 << 0;
    public const uint VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2;
    public const uint VFIO_IRQ_SET_ACTION_MASK = 1 << 3;
    public const uint VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4;
    public const uint VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5;

    public const uint VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0;
    public const uint VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1;

    public const uint VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0;
    public const uint VFIO_DEVICE_ATTACH_PASID = 1 << 0;
    public const uint VFIO_DEVICE_DETACH_PASID = 1 << 0;

    public const uint VFIO_DEVICE_FEATURE_MASK = 0xffff;
    public const uint VFIO_DEVICE_FEATURE_GET = 1 << 16;
    public const uint VFIO_DEVICE_FEATURE_SET = 1 << 17;
    public const uint VFIO_DEVICE_FEATURE_PROBE = 1 << 18;

    public const uint VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
    public const uint VFIO_DEVICE_FEATURE_MIGRATION = 1;
    public const uint VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
    public const uint VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
    public const uint VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
    public const uint VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
    public const uint VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
    public const uint VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
    public const uint VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
    public const uint VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
    public const uint VFIO_DEVICE_FEATURE_BUS_MASTER = 10;
    public const uint VFIO_DEVICE_FEATURE_DMA_BUF = 11;

    public const ulong VFIO_MIGRATION_STOP_COPY = 1 << 0;
    public const ulong VFIO_MIGRATION_P2P = 1 << 1;
    public const ulong VFIO_MIGRATION_PRE_COPY = 1 << 2;

    public const uint VFIO_DEVICE_STATE_ERROR = 0;
    public const uint VFIO_DEVICE_STATE_STOP = 1;
    public const uint VFIO_DEVICE_STATE_RUNNING = 2;
    public const uint VFIO_DEVICE_STATE_STOP_COPY = 3;
    public const uint VFIO_DEVICE_STATE_RESUMING = 4;
    public const uint VFIO_DEVICE_STATE_RUNNING_P2P = 5;
    public const uint VFIO_DEVICE_STATE_PRE_COPY = 6;
    public const uint VFIO_DEVICE_STATE_PRE_COPY_P2P = 7;

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_info_cap_header
    {
        public ushort id;
        public ushort version;
        public uint next;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct vfio_device_info
    {
        public uint argsz;
        public uint flags;
        public uint num_regions;
        public uint num_irqs;
        public uint cap_offset;
        public uint pad;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct vfio_region_info
    {
        public uint argsz;
        public uint flags;
        public uint index;
        public uint cap_offset;
        public ulong size;
        public ulong offset;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_region_sparse_mmap_area
    {
        public ulong offset;
        public ulong size;
    }

    /// <summary>Followed by nr_areas of <see cref="vfio_region_sparse_mmap_area"/>.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_region_info_cap_sparse_mmap
    {
        public vfio_info_cap_header header;
        public uint nr_areas;
        public uint reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_irq_info
    {
        public uint argsz;
        public uint flags;
        public uint index;
        public uint count;
    }

    /// <summary>Followed by count descriptors (s32) with VFIO_IRQ_SET_DATA_EVENTFD.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 20)]
    public struct vfio_irq_set
    {
        public uint argsz;
        public uint flags;
        public uint index;
        public uint start;
        public uint count;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_pci_dependent_device
    {
        public uint devid;
        public ushort segment;
        public byte bus;
        public byte devfn;
    }

    /// <summary>Followed by count of <see cref="vfio_pci_dependent_device"/>.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 12)]
    public struct vfio_pci_hot_reset_info
    {
        public uint argsz;
        public uint flags;
        public uint count;
    }

    /// <summary>Followed by group descriptors; none for a device bound to an iommufd.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 12)]
    public struct vfio_pci_hot_reset
    {
        public uint argsz;
        public uint flags;
        public uint count;
    }

    /// <summary>Followed by the feature's own data.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_device_feature
    {
        public uint argsz;
        public uint flags;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct vfio_device_bind_iommufd
    {
        public uint argsz;
        public uint flags;
        public int iommufd;
        public uint out_devid;
        public ulong token_uuid_ptr;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_device_attach_iommufd_pt
    {
        public uint argsz;
        public uint flags;
        public uint pt_id;
        public uint pasid;
    }

    [StructLayout(LayoutKind.Sequential, Size = 12)]
    public struct vfio_device_detach_iommufd_pt
    {
        public uint argsz;
        public uint flags;
        public uint pasid;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_device_feature_migration
    {
        public ulong flags;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_device_feature_mig_state
    {
        public uint device_state;
        public int data_fd;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct vfio_device_feature_dma_logging_control
    {
        public ulong page_size;
        public uint num_ranges;
        public uint __reserved;
        public ulong ranges;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_device_feature_dma_logging_range
    {
        public ulong iova;
        public ulong length;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct vfio_device_feature_dma_logging_report
    {
        public ulong iova;
        public ulong length;
        public ulong page_size;
        public ulong bitmap;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct vfio_device_feature_mig_data_size
    {
        public ulong stop_copy_length;
    }

    [StructLayout(LayoutKind.Sequential, Size = 4)]
    public struct vfio_device_feature_bus_master
    {
        public uint op;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_region_dma_range
    {
        public ulong offset;
        public ulong length;
    }

    /// <summary>Followed by nr_ranges of <see cref="vfio_region_dma_range"/>.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct vfio_device_feature_dma_buf
    {
        public uint region_index;
        public uint open_flags;
        public uint flags;
        public uint nr_ranges;
    }
}
