using System.Globalization;

namespace CprSharp.Iommufd;

/// <summary>What an object in a context is.</summary>
public enum ObjectKind
{
    /// <summary>Not known.</summary>
    Unknown,

    /// <summary>An I/O address space.</summary>
    Ioas,

    /// <summary>A hardware page table.</summary>
    Hwpt,

    /// <summary>A bound device.</summary>
    Device,

    /// <summary>A queue of I/O page faults.</summary>
    FaultQueue,

    /// <summary>A virtual IOMMU.</summary>
    VirtualIommu,

    /// <summary>A device as a virtual IOMMU sees it.</summary>
    VirtualDevice,

    /// <summary>A queue of a virtual IOMMU's events.</summary>
    VirtualEventQueue,

    /// <summary>A guest queue that hardware serves.</summary>
    HardwareQueue,
}

/// <summary>Any object of a context. Ids have a meaning in their own context only; a context never has two objects of one id.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Value">The kernel's id.</param>
public readonly record struct ObjectId(ObjectKind Kind, uint Value)
{
    /// <summary>For example <c>Ioas 1</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{(Kind == ObjectKind.Unknown ? "object" : Kind)} {Value}");
}

/// <summary>An I/O address space.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct IoasId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.Ioas, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(IoasId id) => id.Id;

    /// <summary>As what a device can be attached to.</summary>
    public static implicit operator PageTableId(IoasId id) => new(id.Id);

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A hardware page table: the kernel's <c>iommu_domain</c>.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct HwptId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.Hwpt, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(HwptId id) => id.Id;

    /// <summary>As what a device can be attached to.</summary>
    public static implicit operator PageTableId(HwptId id) => new(id.Id);

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>What a device can be attached to, and what a HWPT can be made from: an IOAS or a HWPT; a nested HWPT also from a vIOMMU.</summary>
/// <param name="Id">The object.</param>
public readonly record struct PageTableId(ObjectId Id)
{
    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A device that is bound to the context.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct DeviceId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.Device, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(DeviceId id) => id.Id;

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A queue of I/O page faults.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct FaultQueueId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.FaultQueue, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(FaultQueueId id) => id.Id;

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A virtual IOMMU.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct VirtualIommuId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.VirtualIommu, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(VirtualIommuId id) => id.Id;

    /// <summary>As what a nested HWPT can be made from.</summary>
    public static implicit operator PageTableId(VirtualIommuId id) => new(id.Id);

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A device as a virtual IOMMU sees it.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct VirtualDeviceId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.VirtualDevice, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(VirtualDeviceId id) => id.Id;

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A queue of a virtual IOMMU's events.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct VirtualEventQueueId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.VirtualEventQueue, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(VirtualEventQueueId id) => id.Id;

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}

/// <summary>A guest queue that hardware serves.</summary>
/// <param name="Value">The kernel's id.</param>
public readonly record struct HardwareQueueId(uint Value)
{
    /// <summary>As any object.</summary>
    public ObjectId Id => new(ObjectKind.HardwareQueue, Value);

    /// <summary>As any object.</summary>
    public static implicit operator ObjectId(HardwareQueueId id) => id.Id;

    /// <inheritdoc/>
    public override string ToString() => Id.ToString();
}
