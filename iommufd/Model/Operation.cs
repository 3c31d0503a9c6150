using System.Collections.Immutable;

namespace CprSharp.Iommufd.Model;

/// <summary>A call that changes a context. What the kernel answers (ids, addresses it chose) is not part of it but of its outcome.</summary>
public abstract record Operation;

/// <summary>IOMMU_IOAS_ALLOC. Answer: the id.</summary>
public sealed record AllocateIoasOperation : Operation;

/// <summary>IOMMU_DESTROY.</summary>
/// <param name="Target">The object; its kind may be unknown.</param>
public sealed record DestroyOperation(ObjectId Target) : Operation;

/// <summary>IOMMU_IOAS_ALLOW_IOVAS: replaces the whole list.</summary>
/// <param name="Ioas">The address space.</param>
/// <param name="Ranges">What stays usable; empty to allow everything again.</param>
public sealed record AllowIovasOperation(IoasId Ioas, ImmutableArray<IovaRange> Ranges) : Operation
{
    /// <inheritdoc/>
    public bool Equals(AllowIovasOperation? other) => other is not null && Ioas == other.Ioas && Ranges.SequenceEqual(other.Ranges);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Ioas, Ranges.Length);
}

/// <summary>IOMMU_IOAS_MAP, IOMMU_IOAS_MAP_FILE or VFIO_IOMMU_MAP_DMA. Answer: the address.</summary>
/// <param name="Ioas">The address space.</param>
/// <param name="Iova">Where; null to let the kernel choose.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Access">What devices may do.</param>
/// <param name="Backing">The memory; never <see cref="UnknownBacking"/>.</param>
public sealed record MapOperation(IoasId Ioas, ulong? Iova, ulong Length, MapAccess Access, Backing Backing) : Operation;

/// <summary>IOMMU_IOAS_COPY. Answer: the address in the target.</summary>
/// <param name="Source">From.</param>
/// <param name="SourceIova">What.</param>
/// <param name="Target">To; may be the same address space.</param>
/// <param name="TargetIova">Where; null to let the kernel choose.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Access">What devices may do.</param>
public sealed record CopyOperation(IoasId Source, ulong SourceIova, IoasId Target, ulong? TargetIova, ulong Length, MapAccess Access) : Operation;

/// <summary>IOMMU_IOAS_UNMAP or VFIO_IOMMU_UNMAP_DMA. Answer: bytes unmapped.</summary>
/// <param name="Ioas">The address space.</param>
/// <param name="Range">Holds whole areas; <see cref="IovaRange.All"/> for everything.</param>
public sealed record UnmapOperation(IoasId Ioas, IovaRange Range) : Operation;

/// <summary>IOMMU_OPTION, set.</summary>
/// <param name="Option">Which.</param>
/// <param name="Ioas">Whose; null for an option of the whole context.</param>
/// <param name="Value">0 or 1.</param>
public sealed record SetOptionOperation(ContextOption Option, IoasId? Ioas, ulong Value) : Operation;

/// <summary>IOMMU_VFIO_IOAS, set or clear.</summary>
/// <param name="Ioas">The compatibility address space; null to clear it.</param>
public sealed record SetCompatIoasOperation(IoasId? Ioas) : Operation;

/// <summary>IOMMU_HWPT_ALLOC. Answer: the id.</summary>
/// <param name="Device">For which device.</param>
/// <param name="Parent">From what.</param>
/// <param name="Flags">What it must offer.</param>
/// <param name="DataType">0 for a page table that the kernel fills.</param>
/// <param name="FaultQueue">Where page faults go.</param>
public sealed record AllocateHwptOperation(DeviceId Device, PageTableId Parent, HwptFlags Flags, uint DataType, FaultQueueId? FaultQueue) : Operation;

/// <summary>IOMMU_HWPT_SET_DIRTY_TRACKING.</summary>
/// <param name="Hwpt">The page table.</param>
/// <param name="Enabled">On or off.</param>
public sealed record SetDirtyTrackingOperation(HwptId Hwpt, bool Enabled) : Operation;

/// <summary>IOMMU_FAULT_QUEUE_ALLOC. Answer: the id.</summary>
public sealed record AllocateFaultQueueOperation : Operation;

/// <summary>IOMMU_VIOMMU_ALLOC. Answer: the id.</summary>
/// <param name="Device">A device behind the physical IOMMU.</param>
/// <param name="Parent">The nesting parent.</param>
/// <param name="Type">Kind of virtual IOMMU.</param>
public sealed record AllocateVirtualIommuOperation(DeviceId Device, HwptId Parent, uint Type) : Operation;

/// <summary>IOMMU_VDEVICE_ALLOC. Answer: the id.</summary>
/// <param name="Viommu">The virtual IOMMU.</param>
/// <param name="Device">The device.</param>
/// <param name="VirtualId">What the guest calls it.</param>
public sealed record AllocateVirtualDeviceOperation(VirtualIommuId Viommu, DeviceId Device, ulong VirtualId) : Operation;

/// <summary>IOMMU_VEVENTQ_ALLOC. Answer: the id.</summary>
/// <param name="Viommu">The virtual IOMMU.</param>
/// <param name="Type">Kind of events.</param>
/// <param name="Depth">Events that it holds.</param>
public sealed record AllocateVirtualEventQueueOperation(VirtualIommuId Viommu, uint Type, uint Depth) : Operation;

/// <summary>IOMMU_HW_QUEUE_ALLOC. Answer: the id.</summary>
/// <param name="Viommu">The virtual IOMMU.</param>
/// <param name="Type">Kind of queue.</param>
/// <param name="Index">Which one.</param>
/// <param name="Iova">Its memory in the parent's address space, which cannot be unmapped while the queue lives.</param>
/// <param name="Length">Bytes.</param>
public sealed record AllocateHardwareQueueOperation(VirtualIommuId Viommu, uint Type, uint Index, ulong Iova, ulong Length) : Operation;

/// <summary>VFIO_DEVICE_BIND_IOMMUFD. Answer: the id.</summary>
/// <param name="Device">The device's name, for example <c>0000:00:03.0</c>.</param>
public sealed record BindDeviceOperation(string Device) : Operation;

/// <summary>VFIO_DEVICE_ATTACH_IOMMUFD_PT. Answer: the HWPT, or the IOAS.</summary>
/// <param name="Device">The device.</param>
/// <param name="PageTable">To what.</param>
/// <param name="Pasid">Which of its address spaces; null for the device as such.</param>
public sealed record AttachDeviceOperation(DeviceId Device, PageTableId PageTable, uint? Pasid) : Operation;

/// <summary>VFIO_DEVICE_DETACH_IOMMUFD_PT.</summary>
/// <param name="Device">The device.</param>
/// <param name="Pasid">Which of its address spaces; null for the device as such.</param>
public sealed record DetachDeviceOperation(DeviceId Device, uint? Pasid) : Operation;

/// <summary>IOMMU_IOAS_CHANGE_PROCESS.</summary>
/// <param name="Pid">The new owner.</param>
public sealed record ChangeProcessOperation(int Pid) : Operation;
