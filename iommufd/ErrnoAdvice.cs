using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>What an error number means for an ioctl. Pure. From drivers/iommu/iommufd and drivers/vfio of Linux 7.3.</summary>
/// <param name="Cause">Why the kernel says so.</param>
/// <param name="Remedy">What can be done.</param>
public sealed record ErrnoAdvice(string Cause, string Remedy)
{
    private const string Map = "IOMMU_IOAS_MAP";
    private const string MapFile = "IOMMU_IOAS_MAP_FILE";
    private const string Copy = "IOMMU_IOAS_COPY";
    private const string Unmap = "IOMMU_IOAS_UNMAP";

    /// <summary>Looks an error up.</summary>
    /// <param name="ioctl">The kernel's name.</param>
    /// <param name="errno">The error number.</param>
    public static ErrnoAdvice For(string ioctl, int errno)
    {
        ArgumentNullException.ThrowIfNull(ioctl);
        return Particular(ioctl, errno) ?? General(ioctl, errno);
    }

    private static ErrnoAdvice? Particular(string ioctl, int errno) => (ioctl, errno) switch
    {
        ("IOMMU_DESTROY", Errno.EBUSY) =>
            new("something still uses the object: a device is attached to it, another object was made from it, or somebody has its descriptor open", "detach, destroy or close the users first"),
        ("IOMMU_IOAS_ALLOW_IOVAS", Errno.EINVAL) =>
            new("a range ends before it begins, or two overlap", "give disjoint ranges with start <= last"),
        ("IOMMU_IOAS_ALLOW_IOVAS", ErrnoNumbers.EADDRINUSE) =>
            new("a range holds addresses that an attached device reserves", "keep to what IOMMU_IOAS_IOVA_RANGES returns"),
        ("IOMMU_IOAS_IOVA_RANGES", ErrnoNumbers.EMSGSIZE) =>
            new("there are more ranges than the buffer takes", "call again with the count that came back"),

        (Map or MapFile or Copy, ErrnoNumbers.EOVERFLOW) =>
            new("address plus length is beyond the last address", "map less, or lower"),
        (Map or MapFile or Copy, Errno.EEXIST) =>
            new("part of the range is mapped already; the kernel replaces nothing in place", "unmap the old area first"),
        (Map or MapFile or Copy, ErrnoNumbers.ENOSPC) =>
            new("no free range of that size is left among the allowed addresses", "give a fixed address, or widen the allowed ranges"),
        (MapFile, Errno.EBADF) =>
            new("the descriptor is closed or opened with O_PATH", "pass an open memfd"),
        (MapFile, Errno.EINVAL) =>
            new(
                "neither read nor write asked for, no length, an address, offset or length that is no multiple of the IOMMU's page, a reserved address, the end of the file exceeded, or a file that is no shared memory (regular files, guest_memfd and memfd_secret are not)",
                "use a memfd, tmpfs or hugetlbfs file of sufficient size and stay within IOMMU_IOAS_IOVA_RANGES and its alignment"),
        (MapFile, Errno.ENODEV) =>
            new("the dma-buf has been revoked, or its device is gone", "export the region again with VFIO_DEVICE_FEATURE_DMA_BUF"),
        (MapFile, Errno.EOPNOTSUPP) =>
            new("an unknown flag, or a dma-buf that does not come from VFIO's PCI driver", "only single-range dma-bufs of VFIO PCI devices can be mapped"),
        (Map, Errno.EINVAL) =>
            new(
                "neither read nor write asked for, no length, an address or length that is no multiple of the IOMMU's page, or a reserved address",
                "stay within IOMMU_IOAS_IOVA_RANGES and its alignment"),
        (Map, Errno.EFAULT) =>
            new("the virtual addresses are not mapped in this process, or cannot be pinned (a device's memory, or write access to a read-only mapping)", "map the memory first, or map it by file"),
        (Map or MapFile or Copy, Errno.ENOMEM) =>
            new("RLIMIT_MEMLOCK is exceeded (pinned pages count per user), or the kernel is out of memory, or the file has huge pages that nobody has touched yet", "raise RLIMIT_MEMLOCK or give CAP_IPC_LOCK; populate huge pages before mapping them"),
        (Copy, Errno.ENOENT) =>
            new("there is no such IOAS, or the source range has a hole", "copy what is mapped without a gap"),
        (Copy, Errno.EPERM) =>
            new("write access to memory that was mapped for reading only", "copy without write access"),
        (Copy, Errno.EINVAL) =>
            new("no length, neither read nor write asked for, or an address that the target IOAS cannot take", "stay within the target's IOMMU_IOAS_IOVA_RANGES and its alignment"),
        (Copy, Errno.EFAULT) =>
            new("the memory behind the source must be pinned anew and its process is gone", "map it by file instead of by virtual address"),

        (Unmap, Errno.ENOENT) =>
            new("there is no such IOAS, nothing is mapped in the range, or an area reaches beyond it; areas are not split", "unmap whole areas"),
        (Unmap, Errno.EBUSY) =>
            new("an area is being mapped or unmapped by another thread, or a hardware queue lives in it", "finish the other call, or destroy the queue first"),
        (Unmap, ErrnoNumbers.EDEADLK) =>
            new("an access to the memory (an mdev driver) does not let go of it", "stop the mediated device"),

        ("IOMMU_IOAS_CHANGE_PROCESS", Errno.EINVAL) =>
            new(
                "an area is mapped by virtual address or is a dma-buf (a BAR); or, with accounting per process, the previous owner's address space is gone, in which case ownership has changed nevertheless",
                "remap by file, take the BARs out around the call, or hand over while the old process lives"),
        ("IOMMU_IOAS_CHANGE_PROCESS", Errno.ENOMEM) =>
            new("the new owner is charged before the old one is relieved, and RLIMIT_MEMLOCK does not allow that", "raise RLIMIT_MEMLOCK to twice the guest's memory plus what the user has locked besides"),
        ("IOMMU_IOAS_CHANGE_PROCESS", Errno.EBUSY) =>
            new("an area is being mapped or unmapped", "stop the other thread and call again"),
        ("IOMMU_IOAS_CHANGE_PROCESS", Errno.ENOTTY) =>
            new("this kernel has no such call (it came with Linux 6.13)", "use a newer kernel, or hand over without moving the accounting"),

        ("IOMMU_OPTION", Errno.EPERM) =>
            new("the accounting mode may be changed with CAP_SYS_RESOURCE only", "run with that capability"),
        ("IOMMU_OPTION", Errno.EBUSY) =>
            new("the accounting mode can be set in an empty context only", "set it before the first object is made"),
        ("IOMMU_OPTION", Errno.EINVAL) =>
            new("the value is neither 0 nor 1, or huge pages cannot be switched off while page tables are filled", "set it before a device is attached"),
        ("IOMMU_VFIO_IOAS", Errno.ENODEV) =>
            new("the context has no compatibility IOAS", "set one first"),

        ("IOMMU_HWPT_ALLOC", Errno.EOPNOTSUPP) =>
            new("the IOMMU has not what was asked for (dirty tracking, PASID, nesting, fault queue)", "see the device's hardware information"),
        ("IOMMU_HWPT_ALLOC", Errno.EINVAL) =>
            new("the type-specific data does not fit its type, or an area of the IOAS cannot be pinned: a file that is no shared memory, or one that became shorter", "map memfds of sufficient size only"),
        ("IOMMU_HWPT_SET_DIRTY_TRACKING" or "IOMMU_HWPT_GET_DIRTY_BITMAP", Errno.EOPNOTSUPP) =>
            new("the page table was not made with dirty tracking; those that the kernel makes itself never are", "allocate a HWPT with dirty tracking"),
        ("IOMMU_HWPT_GET_DIRTY_BITMAP", Errno.EINVAL) =>
            new("tracking is not switched on, or address, length or page size are not aligned to each other", "switch tracking on and align to the page size"),
        ("IOMMU_HW_QUEUE_ALLOC", Errno.ENOENT) =>
            new("the queue's memory is not mapped in the parent's IOAS", "map it first"),
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno.EPERM) =>
            new("physical addresses are shown with CAP_SYS_RAWIO only", "run with that capability"),
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno.ENOTTY) =>
            new("this kernel has no such call (Linux 7.3 with CONFIG_VFIO_NOIOMMU)", "use a newer kernel"),
        ("IOMMU_IOAS_NOIOMMU_GET_PA", Errno.EOPNOTSUPP) =>
            new("no device without an IOMMU is attached to the IOAS", "ask only for noiommu devices"),

        ("VFIO_DEVICE_BIND_IOMMUFD", Errno.EINVAL) =>
            new("the device is open elsewhere or bound already, or the descriptor is no iommufd", "a device has one open file: hand that over instead of opening it again"),
        ("VFIO_DEVICE_BIND_IOMMUFD", Errno.EPERM) =>
            new("interrupts are not isolated (no interrupt remapping), or a device of the same group belongs to another driver", "enable interrupt remapping, or set iommufd.allow_unsafe_interrupts=1"),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT" or "VFIO_DEVICE_DETACH_IOMMUFD_PT", Errno.EBUSY) =>
            new("a device of the group is being reset", "wait for the reset"),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", Errno.EINVAL) =>
            new(
                "the device is not bound, cannot use this page table, or an area of the IOAS cannot be pinned: it is misaligned for this IOMMU, or its file is no shared memory or too short",
                "bind it first; map memfds of sufficient size at multiples of the IOMMU's page"),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", ErrnoNumbers.EADDRINUSE) =>
            new("the device reserves addresses that are mapped or allowed in the IOAS", "keep those addresses free"),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", Errno.ENOMEM) =>
            new("RLIMIT_MEMLOCK is exceeded when the IOAS is pinned, or the kernel is out of memory", "raise RLIMIT_MEMLOCK or give CAP_IPC_LOCK"),
        ("VFIO_DEVICE_FEATURE", Errno.ENOTTY) =>
            new("the device or this kernel has not this feature", "probe before using it"),
        ("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO" or "VFIO_DEVICE_PCI_HOT_RESET", Errno.ENODEV) =>
            new("neither the device's slot nor its bus can be reset (a device on the root bus)", "use a reset of its own, if it has one"),
        ("VFIO_DEVICE_RESET", Errno.EINVAL or Errno.ENOTTY) =>
            new("the device has no reset of its own", "use a hot reset of the bus"),
        _ => null,
    };

    private static ErrnoAdvice General(string ioctl, int errno) => errno switch
    {
        Errno.ENOTTY => new("this kernel does not know the call, or the descriptor is of another kind", "use a newer kernel"),
        ErrnoNumbers.E2BIG => new("the kernel is older than the structure and does not know a field that was set", "use a newer kernel, or do without that field"),
        Errno.EOPNOTSUPP => new("the kernel knows the call but not a flag or value in it", "use a newer kernel, or do without that flag"),
        Errno.ENOENT => new("no object has this id, or it is of another kind", "look at the journal: the object was destroyed or never made"),
        Errno.EINVAL => new("a field is not correct", "see the call's documentation"),
        Errno.ENOMEM => new("out of memory or over RLIMIT_MEMLOCK", "raise RLIMIT_MEMLOCK, or free memory"),
        Errno.EBUSY => new("something still uses it", "finish the other use first"),
        Errno.EPERM or Errno.EACCES => new("a privilege is missing", "see the call's documentation"),
        Errno.EFAULT => new("an address that was passed is not mapped", "report this as a defect of the caller"),
        Errno.ENODEV => new("the device is gone or not bound", "bind it first"),
        Errno.EBADF => new("the descriptor is closed", "pass an open descriptor"),
        ErrnoNumbers.EOVERFLOW => new("the numbers exceed the address space", "use smaller ones"),
        _ => new($"{ioctl} does not document this error", "look at the kernel's log"),
    };
}

/// <summary>Error numbers that only iommufd and VFIO use here (asm-generic/errno.h).</summary>
internal static class ErrnoNumbers
{
    internal const int E2BIG = 7;
    internal const int ENOSPC = 28;
    internal const int EDEADLK = 35;
    internal const int EOVERFLOW = 75;
    internal const int EMSGSIZE = 90;
    internal const int EADDRINUSE = 98;
}
