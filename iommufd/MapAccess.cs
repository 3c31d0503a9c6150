using CprSharp.Iommufd.Interop;

namespace CprSharp.Iommufd;

/// <summary>What a device may do with an area (<c>enum iommufd_ioas_map_flags</c>).</summary>
[Flags]
public enum MapAccess
{
    /// <summary>Nothing; the kernel takes no such area (EINVAL).</summary>
    None = 0,

    /// <summary>The device may write.</summary>
    Write = (int)LibC.IOMMU_IOAS_MAP_WRITEABLE,

    /// <summary>The device may read.</summary>
    Read = (int)LibC.IOMMU_IOAS_MAP_READABLE,

    /// <summary>Both.</summary>
    ReadWrite = Read | Write,
}
