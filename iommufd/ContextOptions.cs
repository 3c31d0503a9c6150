using CprSharp.Iommufd.Interop;

namespace CprSharp.Iommufd;

/// <summary>What IOMMU_OPTION sets.</summary>
public enum ContextOption
{
    /// <summary>How pinned pages are counted against RLIMIT_MEMLOCK: 0 per user, 1 per process.</summary>
    AccountPerProcess = (int)LibC.IOMMU_OPTION_RLIMIT_MODE,

    /// <summary>Whether contiguous pages are combined: 1 yes, 0 no. Per IOAS.</summary>
    HugePages = (int)LibC.IOMMU_OPTION_HUGE_PAGES,
}

/// <summary>What a HWPT must offer (<c>enum iommufd_hwpt_alloc_flags</c>).</summary>
[Flags]
public enum HwptFlags
{
    /// <summary>Nothing in particular.</summary>
    None = 0,

    /// <summary>It can be the parent of nested ones.</summary>
    NestParent = (int)LibC.IOMMU_HWPT_ALLOC_NEST_PARENT,

    /// <summary>It records which pages devices write to.</summary>
    DirtyTracking = (int)LibC.IOMMU_HWPT_ALLOC_DIRTY_TRACKING,

    /// <summary>It can be attached to a PASID.</summary>
    Pasid = (int)LibC.IOMMU_HWPT_ALLOC_PASID,
}

/// <summary>What the IOMMU can do for a device (<c>enum iommufd_hw_capabilities</c>).</summary>
[Flags]
public enum HardwareCapabilities : ulong
{
    /// <summary>Nothing of the below.</summary>
    None = 0,

    /// <summary>Dirty tracking.</summary>
    DirtyTracking = LibC.IOMMU_HW_CAP_DIRTY_TRACKING,

    /// <summary>Execute permission with PASIDs.</summary>
    PasidExecute = LibC.IOMMU_HW_CAP_PCI_PASID_EXEC,

    /// <summary>Privileged mode with PASIDs.</summary>
    PasidPrivileged = LibC.IOMMU_HW_CAP_PCI_PASID_PRIV,

    /// <summary>No ATS (Linux 7.2).</summary>
    NoAts = LibC.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
}

/// <summary>IOMMU_GET_HW_INFO.</summary>
/// <param name="Type">0 none, 1 Intel VT-d, 2 Arm SMMUv3, 3 Tegra241, 4 AMD.</param>
/// <param name="Capabilities">What any IOMMU can have.</param>
/// <param name="MaxPasidBits">Width of PASIDs; 0 for none.</param>
/// <param name="Data">The type's own registers, as many bytes as the kernel has.</param>
public sealed record HardwareInfo(uint Type, HardwareCapabilities Capabilities, int MaxPasidBits, ReadOnlyMemory<byte> Data);

/// <summary>IOMMU_IOAS_IOVA_RANGES.</summary>
/// <param name="Ranges">What can be mapped; narrows and widens as devices come and go.</param>
/// <param name="Alignment">Bytes that every address and length must be a multiple of; 1 while no page table needs more.</param>
public sealed record UsableIovas(IReadOnlyList<IovaRange> Ranges, ulong Alignment);
