using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>Virtual IOMMUs: what of them a hand-over must carry.</summary>
public sealed partial class IommufdContext
{
    /// <summary>Makes a slice of a physical IOMMU for a guest.</summary>
    /// <param name="device">A device behind it.</param>
    /// <param name="parent">A page table made with <see cref="HwptFlags.NestParent"/>.</param>
    /// <param name="type">The kind.</param>
    /// <param name="data">The kind's own structure; the kernel writes its answers into it.</param>
    /// <exception cref="IommufdException">EOPNOTSUPP: the IOMMU has no such thing.</exception>
    public unsafe VirtualIommuId AllocateVirtualIommu(DeviceId device, HwptId parent, uint type, Span<byte> data = default)
    {
        fixed (byte* bytes = data)
        {
            var argument = new LibC.iommu_viommu_alloc
            {
                size = (uint)sizeof(LibC.iommu_viommu_alloc),
                type = type,
                dev_id = device.Value,
                hwpt_id = parent.Value,
                data_len = (uint)data.Length,
                data_uptr = (ulong)bytes,
            };
            _channel.Change(
                "IOMMU_VIOMMU_ALLOC",
                LibC.IOMMU_VIOMMU_ALLOC,
                &argument,
                $"{device}, {parent}",
                null,
                new AllocateVirtualIommuOperation(device, parent, type),
                &argument.out_viommu_id);
            return new VirtualIommuId(argument.out_viommu_id);
        }
    }

    /// <summary>Tells a virtual IOMMU by what number the guest knows a device. Destroy it before the device is closed: else its id is lost until the context goes.</summary>
    public unsafe VirtualDeviceId AllocateVirtualDevice(VirtualIommuId viommu, DeviceId device, ulong virtualId)
    {
        var argument = new LibC.iommu_vdevice_alloc
        {
            size = (uint)sizeof(LibC.iommu_vdevice_alloc),
            viommu_id = viommu.Value,
            dev_id = device.Value,
            virt_id = virtualId,
        };
        _channel.Change(
            "IOMMU_VDEVICE_ALLOC",
            LibC.IOMMU_VDEVICE_ALLOC,
            &argument,
            $"{viommu}, {device}, guest id 0x{virtualId:x}",
            null,
            new AllocateVirtualDeviceOperation(viommu, device, virtualId),
            &argument.out_vdevice_id);
        return new VirtualDeviceId(argument.out_vdevice_id);
    }

    /// <summary>Makes a queue for a virtual IOMMU's events.</summary>
    /// <returns>Its id and its descriptor, which the caller owns and which a hand-over must carry along.</returns>
    public unsafe (VirtualEventQueueId Id, SafeFileHandle Queue) AllocateVirtualEventQueue(VirtualIommuId viommu, uint type, uint depth)
    {
        var argument = new LibC.iommu_veventq_alloc
        {
            size = (uint)sizeof(LibC.iommu_veventq_alloc),
            viommu_id = viommu.Value,
            type = type,
            veventq_depth = depth,
        };
        _channel.Change(
            "IOMMU_VEVENTQ_ALLOC",
            LibC.IOMMU_VEVENTQ_ALLOC,
            &argument,
            viommu.ToString(),
            null,
            new AllocateVirtualEventQueueOperation(viommu, type, depth),
            &argument.out_veventq_id);
        return (new VirtualEventQueueId(argument.out_veventq_id), new SafeFileHandle((nint)argument.out_veventq_fd, ownsHandle: true));
    }

    /// <summary>Lets hardware serve a queue in guest memory.</summary>
    /// <param name="viommu">The virtual IOMMU.</param>
    /// <param name="type">The kind.</param>
    /// <param name="index">Which of its queues.</param>
    /// <param name="memory">Where the queue is, in the parent's address space; cannot be unmapped while the queue lives.</param>
    public unsafe HardwareQueueId AllocateHardwareQueue(VirtualIommuId viommu, uint type, uint index, IovaRange memory)
    {
        var argument = new LibC.iommu_hw_queue_alloc
        {
            size = (uint)sizeof(LibC.iommu_hw_queue_alloc),
            viommu_id = viommu.Value,
            type = type,
            index = index,
            nesting_parent_iova = memory.Start,
            length = memory.Length,
        };
        _channel.Change(
            "IOMMU_HW_QUEUE_ALLOC",
            LibC.IOMMU_HW_QUEUE_ALLOC,
            &argument,
            $"{viommu}, queue {index}",
            memory,
            new AllocateHardwareQueueOperation(viommu, type, index, memory.Start, memory.Length),
            &argument.out_hw_queue_id);
        return new HardwareQueueId(argument.out_hw_queue_id);
    }
}
