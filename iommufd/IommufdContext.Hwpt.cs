using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>Page tables, dirty tracking, fault queues, and what the hardware can do.</summary>
public sealed partial class IommufdContext
{
    /// <summary>Makes a page table. One that is made so, unlike those that attaching to an IOAS makes, can track writes and survives a replace.</summary>
    /// <param name="device">For which device's IOMMU.</param>
    /// <param name="parent">An IOAS; for a nested one the parent page table or a virtual IOMMU.</param>
    /// <param name="flags">What it must offer.</param>
    /// <param name="data">Type and registers of a nested one.</param>
    /// <param name="faultQueue">Where page faults go.</param>
    /// <exception cref="IommufdException">EOPNOTSUPP: the IOMMU has not what was asked for; EINVAL, ENOMEM: the IOAS cannot be pinned.</exception>
    public unsafe HwptId AllocateHwpt(
        DeviceId device, PageTableId parent, HwptFlags flags = HwptFlags.None, TypedData? data = null, FaultQueueId? faultQueue = null)
    {
        fixed (byte* bytes = data is null ? default : data.Bytes.Span)
        {
            var argument = new LibC.iommu_hwpt_alloc
            {
                size = (uint)sizeof(LibC.iommu_hwpt_alloc),
                flags = (uint)flags | (faultQueue is null ? 0 : LibC.IOMMU_HWPT_FAULT_ID_VALID),
                dev_id = device.Value,
                pt_id = parent.Id.Value,
                data_type = data?.Type ?? LibC.IOMMU_HWPT_DATA_NONE,
                data_len = (uint)(data?.Bytes.Length ?? 0),
                data_uptr = (ulong)bytes,
                fault_id = faultQueue?.Value ?? 0,
            };
            _channel.Change(
                "IOMMU_HWPT_ALLOC",
                LibC.IOMMU_HWPT_ALLOC,
                &argument,
                $"{device}, {parent}, {flags}",
                null,
                new AllocateHwptOperation(device, parent, flags, argument.data_type, faultQueue),
                &argument.out_hwpt_id);
            return new HwptId(argument.out_hwpt_id);
        }
    }

    /// <summary>What the IOMMU behind a device can do.</summary>
    /// <param name="device">The device.</param>
    /// <param name="type">Which registers; null for the default.</param>
    public unsafe HardwareInfo GetHardwareInfo(DeviceId device, uint? type = null)
    {
        var buffer = new byte[64];
        while (true)
        {
            fixed (byte* bytes = buffer)
            {
                var argument = new LibC.iommu_hw_info
                {
                    size = (uint)sizeof(LibC.iommu_hw_info),
                    flags = type is null ? 0 : LibC.IOMMU_HW_INFO_FLAG_INPUT_TYPE,
                    dev_id = device.Value,
                    data_len = (uint)buffer.Length,
                    data_uptr = (ulong)bytes,
                    out_data_type = type ?? 0,
                };
                _channel.Ask("IOMMU_GET_HW_INFO", LibC.IOMMU_GET_HW_INFO, &argument, device.ToString());
                if (argument.data_len <= buffer.Length)
                {
                    return new HardwareInfo(
                        argument.out_data_type,
                        (HardwareCapabilities)argument.out_capabilities,
                        argument.out_max_pasid_log2,
                        buffer.AsMemory(0, (int)argument.data_len));
                }

                buffer = new byte[argument.data_len];
            }
        }
    }

    /// <summary>Switches the recording of devices' writes on or off. Switching on forgets what was recorded.</summary>
    /// <exception cref="IommufdException">EOPNOTSUPP: not made with <see cref="HwptFlags.DirtyTracking"/>.</exception>
    public unsafe void SetDirtyTracking(HwptId hwpt, bool enabled)
    {
        var argument = new LibC.iommu_hwpt_set_dirty_tracking
        {
            size = (uint)sizeof(LibC.iommu_hwpt_set_dirty_tracking),
            flags = enabled ? LibC.IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0,
            hwpt_id = hwpt.Value,
        };
        _channel.Change(
            "IOMMU_HWPT_SET_DIRTY_TRACKING",
            LibC.IOMMU_HWPT_SET_DIRTY_TRACKING,
            &argument,
            hwpt.ToString(),
            null,
            new SetDirtyTrackingOperation(hwpt, enabled));
    }

    /// <summary>Which pages devices have written to since tracking began or since the last call that cleared.</summary>
    /// <param name="hwpt">The page table.</param>
    /// <param name="range">Mapped without a gap; a multiple of <paramref name="pageSize"/>.</param>
    /// <param name="pageSize">Bytes per bit, a power of two.</param>
    /// <param name="bitmap">One bit per page, from the range's start on. Bits are only ever set.</param>
    /// <param name="clear">Whether to forget what is returned.</param>
    /// <exception cref="IommufdException">EINVAL: misaligned, or tracking is off; EOPNOTSUPP.</exception>
    public unsafe void GetDirtyBitmap(HwptId hwpt, IovaRange range, ulong pageSize, Span<ulong> bitmap, bool clear = true)
    {
        ArgumentOutOfRangeException.ThrowIfZero(pageSize);
        var bits = (range.Length + pageSize - 1) / pageSize;
        if ((ulong)bitmap.Length < (bits + 63) / 64)
            throw new ArgumentException($"{bits} pages need {(bits + 63) / 64} words, not {bitmap.Length}.", nameof(bitmap));
        fixed (ulong* data = bitmap)
        {
            var argument = new LibC.iommu_hwpt_get_dirty_bitmap
            {
                size = (uint)sizeof(LibC.iommu_hwpt_get_dirty_bitmap),
                hwpt_id = hwpt.Value,
                flags = clear ? 0 : LibC.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
                iova = range.Start,
                length = range.Length,
                page_size = pageSize,
                data = (ulong)data,
            };
            _channel.Ask("IOMMU_HWPT_GET_DIRTY_BITMAP", LibC.IOMMU_HWPT_GET_DIRTY_BITMAP, &argument, hwpt.ToString(), range);
        }
    }

    /// <summary>Passes a guest's cache invalidations on.</summary>
    /// <param name="target">A nested page table, or a virtual IOMMU.</param>
    /// <param name="type">Type of the requests.</param>
    /// <param name="requests">Requests of the type's layout, one after the other; empty to ask whether the kernel knows the type.</param>
    /// <param name="requestLength">Bytes of one.</param>
    /// <returns>How many were carried out; all of them unless it throws.</returns>
    public unsafe int Invalidate(ObjectId target, uint type, ReadOnlySpan<byte> requests, int requestLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(requestLength);
        fixed (byte* data = requests)
        {
            var argument = new LibC.iommu_hwpt_invalidate
            {
                size = (uint)sizeof(LibC.iommu_hwpt_invalidate),
                hwpt_id = target.Value,
                data_uptr = (ulong)data,
                data_type = type,
                entry_len = (uint)requestLength,
                entry_num = requestLength == 0 ? 0 : (uint)(requests.Length / requestLength),
            };
            _channel.Ask("IOMMU_HWPT_INVALIDATE", LibC.IOMMU_HWPT_INVALIDATE, &argument, target.ToString());
            return (int)argument.entry_num;
        }
    }

    /// <summary>Makes a queue for the page faults of devices.</summary>
    /// <returns>Its id and its descriptor, which the caller owns and which a hand-over must carry along.</returns>
    public unsafe (FaultQueueId Id, SafeFileHandle Queue) AllocateFaultQueue()
    {
        var argument = new LibC.iommu_fault_alloc { size = (uint)sizeof(LibC.iommu_fault_alloc) };
        _channel.Change(
            "IOMMU_FAULT_QUEUE_ALLOC",
            LibC.IOMMU_FAULT_QUEUE_ALLOC,
            &argument,
            "context",
            null,
            new AllocateFaultQueueOperation(),
            &argument.out_fault_id);
        return (new FaultQueueId(argument.out_fault_id), new SafeFileHandle((nint)argument.out_fault_fd, ownsHandle: true));
    }
}

/// <summary>Data whose layout a type decides.</summary>
/// <param name="Type">The kernel's number for it.</param>
/// <param name="Bytes">As the kernel's header lays it out.</param>
public sealed record TypedData(uint Type, ReadOnlyMemory<byte> Bytes);
