using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary>
/// <c>include/uapi/linux/iommufd.h</c> of Linux 7.3: every request is <c>_IO(';', nr)</c>, every structure begins with its own
/// size and has no padding. Checked against the header by the tests.
/// </summary>
internal static partial class LibC
{
    public const uint IOMMU_DESTROY = 0x3b80;
    public const uint IOMMU_IOAS_ALLOC = 0x3b81;
    public const uint IOMMU_IOAS_ALLOW_IOVAS = 0x3b82;
    public const uint IOMMU_IOAS_COPY = 0x3b83;
    public const uint IOMMU_IOAS_IOVA_RANGES = 0x3b84;
    public const uint IOMMU_IOAS_MAP = 0x3b85;
    public const uint IOMMU_IOAS_UNMAP = 0x3b86;
    public const uint IOMMU_OPTION = 0x3b87;
    public const uint IOMMU_VFIO_IOAS = 0x3b88;
    public const uint IOMMU_HWPT_ALLOC = 0x3b89;
    public const uint IOMMU_GET_HW_INFO = 0x3b8a;
    public const uint IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3b8b;
    public const uint IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3b8c;
    public const uint IOMMU_HWPT_INVALIDATE = 0x3b8d;
    public const uint IOMMU_FAULT_QUEUE_ALLOC = 0x3b8e;
    public const uint IOMMU_IOAS_MAP_FILE = 0x3b8f;
    public const uint IOMMU_VIOMMU_ALLOC = 0x3b90;
    public const uint IOMMU_VDEVICE_ALLOC = 0x3b91;
    public const uint IOMMU_IOAS_CHANGE_PROCESS = 0x3b92;
    public const uint IOMMU_VEVENTQ_ALLOC = 0x3b93;
    public const uint IOMMU_HW_QUEUE_ALLOC = 0x3b94;
    public const uint IOMMU_IOAS_NOIOMMU_GET_PA = 0x3b95;

    public const uint IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0;
    public const uint IOMMU_IOAS_MAP_WRITEABLE = 1 << 1;
    public const uint IOMMU_IOAS_MAP_READABLE = 1 << 2;

    public const uint IOMMU_OPTION_RLIMIT_MODE = 0;
    public const uint IOMMU_OPTION_HUGE_PAGES = 1;
    public const ushort IOMMU_OPTION_OP_SET = 0;
    public const ushort IOMMU_OPTION_OP_GET = 1;

    public const ushort IOMMU_VFIO_IOAS_GET = 0;
    public const ushort IOMMU_VFIO_IOAS_SET = 1;
    public const ushort IOMMU_VFIO_IOAS_CLEAR = 2;

    public const uint IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0;
    public const uint IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1;
    public const uint IOMMU_HWPT_FAULT_ID_VALID = 1 << 2;
    public const uint IOMMU_HWPT_ALLOC_PASID = 1 << 3;

    public const uint IOMMU_HWPT_DATA_NONE = 0;
    public const uint IOMMU_HWPT_DATA_VTD_S1 = 1;
    public const uint IOMMU_HWPT_DATA_ARM_SMMUV3 = 2;
    public const uint IOMMU_HWPT_DATA_AMD_GUEST = 3;

    public const uint IOMMU_HW_INFO_TYPE_NONE = 0;
    public const uint IOMMU_HW_INFO_TYPE_INTEL_VTD = 1;
    public const uint IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2;
    public const uint IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3;
    public const uint IOMMU_HW_INFO_TYPE_AMD = 4;
    public const uint IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1 << 0;

    public const ulong IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0;
    public const ulong IOMMU_HW_CAP_PCI_PASID_EXEC = 1 << 1;
    public const ulong IOMMU_HW_CAP_PCI_PASID_PRIV = 1 << 2;
    public const ulong IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 1 << 3;

    public const uint IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1;
    public const uint IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1;

    public const uint IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0;
    public const uint IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1;

    public const uint IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0;
    public const uint IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1;
    public const uint IOMMU_PGFAULT_PERM_READ = 1 << 0;
    public const uint IOMMU_PGFAULT_PERM_WRITE = 1 << 1;
    public const uint IOMMU_PGFAULT_PERM_EXEC = 1 << 2;
    public const uint IOMMU_PGFAULT_PERM_PRIV = 1 << 3;
    public const uint IOMMUFD_PAGE_RESP_SUCCESS = 0;
    public const uint IOMMUFD_PAGE_RESP_INVALID = 1;

    public const uint IOMMU_VIOMMU_TYPE_DEFAULT = 0;
    public const uint IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1;
    public const uint IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2;
    public const uint IOMMU_VEVENTQ_TYPE_DEFAULT = 0;
    public const uint IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1;
    public const uint IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2;
    public const uint IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1;
    public const uint IOMMU_HW_QUEUE_TYPE_DEFAULT = 0;
    public const uint IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1;

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct iommu_destroy
    {
        public uint size;
        public uint id;
    }

    [StructLayout(LayoutKind.Sequential, Size = 12)]
    public struct iommu_ioas_alloc
    {
        public uint size;
        public uint flags;
        public uint out_ioas_id;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct iommu_iova_range
    {
        public ulong start;
        public ulong last;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct iommu_ioas_iova_ranges
    {
        public uint size;
        public uint ioas_id;
        public uint num_iovas;
        public uint __reserved;
        public ulong allowed_iovas;
        public ulong out_iova_alignment;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct iommu_ioas_allow_iovas
    {
        public uint size;
        public uint ioas_id;
        public uint num_iovas;
        public uint __reserved;
        public ulong allowed_iovas;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_ioas_map
    {
        public uint size;
        public uint flags;
        public uint ioas_id;
        public uint __reserved;
        public ulong user_va;
        public ulong length;
        public ulong iova;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_ioas_noiommu_get_pa
    {
        public uint size;
        public uint flags;
        public uint ioas_id;
        public uint __reserved;
        public ulong iova;
        public ulong length;
        public ulong out_phys;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_ioas_map_file
    {
        public uint size;
        public uint flags;
        public uint ioas_id;
        public int fd;
        public ulong start;
        public ulong length;
        public ulong iova;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_ioas_copy
    {
        public uint size;
        public uint flags;
        public uint dst_ioas_id;
        public uint src_ioas_id;
        public ulong length;
        public ulong dst_iova;
        public ulong src_iova;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct iommu_ioas_unmap
    {
        public uint size;
        public uint ioas_id;
        public ulong iova;
        public ulong length;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct iommu_option
    {
        public uint size;
        public uint option_id;
        public ushort op;
        public ushort __reserved;
        public uint object_id;
        public ulong val64;
    }

    [StructLayout(LayoutKind.Sequential, Size = 12)]
    public struct iommu_vfio_ioas
    {
        public uint size;
        public uint ioas_id;
        public ushort op;
        public ushort __reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 48)]
    public struct iommu_hwpt_alloc
    {
        public uint size;
        public uint flags;
        public uint dev_id;
        public uint pt_id;
        public uint out_hwpt_id;
        public uint __reserved;
        public uint data_type;
        public uint data_len;
        public ulong data_uptr;
        public uint fault_id;
        public uint __reserved2;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public unsafe struct iommu_hw_info
    {
        public uint size;
        public uint flags;
        public uint dev_id;
        public uint data_len;
        public ulong data_uptr;
        public uint out_data_type;
        public byte out_max_pasid_log2;
        public fixed byte __reserved[3];
        public ulong out_capabilities;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct iommu_hwpt_set_dirty_tracking
    {
        public uint size;
        public uint flags;
        public uint hwpt_id;
        public uint __reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 48)]
    public struct iommu_hwpt_get_dirty_bitmap
    {
        public uint size;
        public uint hwpt_id;
        public uint flags;
        public uint __reserved;
        public ulong iova;
        public ulong length;
        public ulong page_size;
        public ulong data;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct iommu_hwpt_invalidate
    {
        public uint size;
        public uint hwpt_id;
        public ulong data_uptr;
        public uint data_type;
        public uint entry_len;
        public uint entry_num;
        public uint __reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_hwpt_pgfault
    {
        public uint flags;
        public uint dev_id;
        public uint pasid;
        public uint grpid;
        public uint perm;
        public uint __reserved;
        public ulong addr;
        public uint length;
        public uint cookie;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct iommu_hwpt_page_response
    {
        public uint cookie;
        public uint code;
    }

    [StructLayout(LayoutKind.Sequential, Size = 16)]
    public struct iommu_fault_alloc
    {
        public uint size;
        public uint flags;
        public uint out_fault_id;
        public uint out_fault_fd;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_viommu_alloc
    {
        public uint size;
        public uint flags;
        public uint type;
        public uint dev_id;
        public uint hwpt_id;
        public uint out_viommu_id;
        public uint data_len;
        public uint __reserved;
        public ulong data_uptr;
    }

    [StructLayout(LayoutKind.Sequential, Size = 24)]
    public struct iommu_vdevice_alloc
    {
        public uint size;
        public uint viommu_id;
        public uint dev_id;
        public uint out_vdevice_id;
        public ulong virt_id;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct iommu_ioas_change_process
    {
        public uint size;
        public uint __reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 8)]
    public struct iommufd_vevent_header
    {
        public uint flags;
        public uint sequence;
    }

    [StructLayout(LayoutKind.Sequential, Size = 32)]
    public struct iommu_veventq_alloc
    {
        public uint size;
        public uint flags;
        public uint viommu_id;
        public uint type;
        public uint veventq_depth;
        public uint out_veventq_id;
        public uint out_veventq_fd;
        public uint __reserved;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    public struct iommu_hw_queue_alloc
    {
        public uint size;
        public uint flags;
        public uint viommu_id;
        public uint type;
        public uint index;
        public uint out_hw_queue_id;
        public ulong nesting_parent_iova;
        public ulong length;
    }
}
