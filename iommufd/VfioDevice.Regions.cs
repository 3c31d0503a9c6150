using System.Buffers.Binary;
using System.Runtime.InteropServices;
using CprSharp.Iommufd.Interop;
using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>Regions (BARs, configuration space) and interrupts.</summary>
public sealed partial class VfioDevice
{
    private const ulong CommandRegister = 4;
    private const ushort BusMasterBit = 4;

    /// <summary>The region that holds the PCI configuration space.</summary>
    public static int PciConfigRegion => (int)LibC.VFIO_PCI_CONFIG_REGION_INDEX;

    /// <summary>Where a region is and what can be done with it.</summary>
    /// <param name="index">Its number; for PCI 0-5 are the BARs.</param>
    public unsafe VfioRegion GetRegion(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        var buffer = new byte[sizeof(LibC.vfio_region_info)];
        while (true)
        {
            fixed (byte* bytes = buffer)
            {
                var info = (LibC.vfio_region_info*)bytes;
                info->argsz = (uint)buffer.Length;
                info->index = (uint)index;
                _channel.Ask("VFIO_DEVICE_GET_REGION_INFO", LibC.VFIO_DEVICE_GET_REGION_INFO, bytes, $"{Name}, region {index}");
                if (info->argsz > buffer.Length)
                {
                    buffer = new byte[info->argsz];
                    continue;
                }

                return new VfioRegion(index, (VfioRegionFlags)info->flags, info->size, info->offset, MappableParts(buffer, *info));
            }
        }
    }

    /// <summary>Reads from a region.</summary>
    /// <param name="region">The region.</param>
    /// <param name="offset">Bytes into it.</param>
    /// <param name="buffer">Filled wholly.</param>
    /// <exception cref="SyscallException">pread: EINVAL beyond the region, EIO while the device's memory is disabled.</exception>
    public void Read(VfioRegion region, ulong offset, Span<byte> buffer)
    {
        ArgumentNullException.ThrowIfNull(region);
        var count = LibC.pread(Handle, buffer, (nuint)buffer.Length, (long)(region.Offset + offset));
        Check(count, buffer.Length, "pread", region, offset);
    }

    /// <summary>Writes to a region.</summary>
    /// <param name="region">The region.</param>
    /// <param name="offset">Bytes into it.</param>
    /// <param name="buffer">What to write.</param>
    /// <exception cref="SyscallException">pwrite: EINVAL beyond the region, EIO while the device's memory is disabled.</exception>
    public void Write(VfioRegion region, ulong offset, ReadOnlySpan<byte> buffer)
    {
        ArgumentNullException.ThrowIfNull(region);
        var count = LibC.pwrite(Handle, buffer, (nuint)buffer.Length, (long)(region.Offset + offset));
        Check(count, buffer.Length, "pwrite", region, offset);
    }

    /// <summary>Maps a region's memory.</summary>
    /// <param name="region">One with <see cref="VfioRegionFlags.Map"/>.</param>
    /// <exception cref="SyscallException">mmap: EINVAL.</exception>
    public MemoryMapping MapRegion(VfioRegion region)
    {
        ArgumentNullException.ThrowIfNull(region);
        return MemoryMapping.Map(Handle, (long)region.Offset, (nuint)region.Size, MappingProtection.Read | MappingProtection.Write);
    }

    /// <summary>Whether the PCI device may do DMA at all (Command register, Bus Master Enable).</summary>
    public bool GetPciBusMaster()
    {
        Span<byte> command = stackalloc byte[2];
        Read(GetRegion(PciConfigRegion), CommandRegister, command);
        return (BinaryPrimitives.ReadUInt16LittleEndian(command) & BusMasterBit) != 0;
    }

    /// <summary>Allows or stops all DMA of a PCI device. What it had begun is lost to it, so its driver must expect this.</summary>
    public void SetPciBusMaster(bool enabled)
    {
        var config = GetRegion(PciConfigRegion);
        Span<byte> command = stackalloc byte[2];
        Read(config, CommandRegister, command);
        var value = BinaryPrimitives.ReadUInt16LittleEndian(command);
        BinaryPrimitives.WriteUInt16LittleEndian(command, (ushort)(enabled ? value | BusMasterBit : value & ~BusMasterBit));
        Write(config, CommandRegister, command);
    }

    /// <summary>How many interrupts of a kind the device has.</summary>
    public unsafe VfioInterrupt GetInterrupt(VfioInterruptKind kind)
    {
        var argument = new LibC.vfio_irq_info { argsz = (uint)sizeof(LibC.vfio_irq_info), index = (uint)kind };
        _channel.Ask("VFIO_DEVICE_GET_IRQ_INFO", LibC.VFIO_DEVICE_GET_IRQ_INFO, &argument, $"{Name}, {kind}");
        return new VfioInterrupt(kind, (int)argument.count, (VfioInterruptFlags)argument.flags);
    }

    /// <summary>Has interrupts delivered to eventfds. The kernel holds the eventfds: a hand-over passes the same ones on and sets nothing anew.</summary>
    /// <param name="kind">The kind.</param>
    /// <param name="eventFds">One for each, from the first on; null to leave one out.</param>
    public unsafe void SetEventFds(VfioInterruptKind kind, IReadOnlyList<SafeHandle?> eventFds)
    {
        ArgumentNullException.ThrowIfNull(eventFds);
        var leased = new bool[eventFds.Count];
        try
        {
            var numbers = new int[eventFds.Count];
            for (var i = 0; i < eventFds.Count; i++)
            {
                eventFds[i]?.DangerousAddRef(ref leased[i]);
                numbers[i] = (int)(eventFds[i]?.DangerousGetHandle() ?? -1);
            }

            SetInterrupts(kind, LibC.VFIO_IRQ_SET_DATA_EVENTFD | LibC.VFIO_IRQ_SET_ACTION_TRIGGER, eventFds.Count, numbers);
        }
        finally
        {
            for (var i = 0; i < leased.Length; i++)
            {
                if (leased[i])
                    eventFds[i]!.DangerousRelease();
            }
        }
    }

    /// <summary>Switches a kind of interrupt off.</summary>
    public void DisableInterrupts(VfioInterruptKind kind) =>
        SetInterrupts(kind, LibC.VFIO_IRQ_SET_DATA_NONE | LibC.VFIO_IRQ_SET_ACTION_TRIGGER, 0, []);

    /// <summary>Fires an interrupt as if the device had: a new owner does so once, so that none that came in between is missed.</summary>
    /// <param name="kind">The kind.</param>
    /// <param name="index">Which one.</param>
    public void TriggerInterrupt(VfioInterruptKind kind, int index = 0) =>
        SetInterrupts(kind, LibC.VFIO_IRQ_SET_DATA_NONE | LibC.VFIO_IRQ_SET_ACTION_TRIGGER, 1, [], index);

    /// <summary>Masks or unmasks an interrupt line (INTx).</summary>
    /// <param name="kind">One that is maskable.</param>
    /// <param name="masked">Whether to mask.</param>
    public void MaskInterrupt(VfioInterruptKind kind, bool masked) =>
        SetInterrupts(kind, LibC.VFIO_IRQ_SET_DATA_NONE | (masked ? LibC.VFIO_IRQ_SET_ACTION_MASK : LibC.VFIO_IRQ_SET_ACTION_UNMASK), 1, []);

    private static unsafe List<VfioRegionPart> MappableParts(ReadOnlySpan<byte> buffer, LibC.vfio_region_info info)
    {
        var parts = new List<VfioRegionPart>();
        var flags = (VfioRegionFlags)info.flags;
        if (!flags.HasFlag(VfioRegionFlags.Map))
            return parts;
        for (var at = flags.HasFlag(VfioRegionFlags.Capabilities) ? info.cap_offset : 0; at != 0;)
        {
            var header = MemoryMarshal.Read<LibC.vfio_info_cap_header>(buffer[(int)at..]);
            if (header.id == LibC.VFIO_REGION_INFO_CAP_SPARSE_MMAP)
            {
                var sparse = MemoryMarshal.Read<LibC.vfio_region_info_cap_sparse_mmap>(buffer[(int)at..]);
                var areas = buffer.Slice((int)at + sizeof(LibC.vfio_region_info_cap_sparse_mmap), (int)sparse.nr_areas * sizeof(LibC.vfio_region_sparse_mmap_area));
                foreach (var area in MemoryMarshal.Cast<byte, LibC.vfio_region_sparse_mmap_area>(areas))
                    parts.Add(new VfioRegionPart(area.offset, area.size));
                return parts;
            }

            at = header.next;
        }

        parts.Add(new VfioRegionPart(0, info.size));
        return parts;
    }

    private unsafe void SetInterrupts(VfioInterruptKind kind, uint flags, int count, ReadOnlySpan<int> data, int start = 0)
    {
        var buffer = new byte[sizeof(LibC.vfio_irq_set) + data.Length * sizeof(int)];
        fixed (byte* bytes = buffer)
        {
            *(LibC.vfio_irq_set*)bytes = new LibC.vfio_irq_set
            {
                argsz = (uint)buffer.Length,
                flags = flags,
                index = (uint)kind,
                start = (uint)start,
                count = (uint)count,
            };
            MemoryMarshal.AsBytes(data).CopyTo(buffer.AsSpan(sizeof(LibC.vfio_irq_set)));
            _channel.Ask("VFIO_DEVICE_SET_IRQS", LibC.VFIO_DEVICE_SET_IRQS, bytes, $"{Name}, {kind}");
        }
    }

    private void Check(nint count, int expected, string syscall, VfioRegion region, ulong offset)
    {
        if (count < 0)
            throw SyscallException.FromLastError(syscall, $"{Name}, region {region.Index} at 0x{offset:x}");
        if (count != expected)
            throw new EndOfStreamException($"{Name}, region {region.Index} at 0x{offset:x}: {count} of {expected} bytes.");
    }
}

/// <summary>What can be done with a region (<c>VFIO_REGION_INFO_FLAG_*</c>).</summary>
[Flags]
public enum VfioRegionFlags
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Read.</summary>
    Read = (int)LibC.VFIO_REGION_INFO_FLAG_READ,

    /// <summary>Written.</summary>
    Write = (int)LibC.VFIO_REGION_INFO_FLAG_WRITE,

    /// <summary>Mapped.</summary>
    Map = (int)LibC.VFIO_REGION_INFO_FLAG_MMAP,

    /// <summary>The kernel has more to say about it.</summary>
    Capabilities = (int)LibC.VFIO_REGION_INFO_FLAG_CAPS,
}

/// <summary>Part of a region.</summary>
/// <param name="Offset">Bytes into the region.</param>
/// <param name="Size">Bytes.</param>
public readonly record struct VfioRegionPart(ulong Offset, ulong Size);

/// <summary>VFIO_DEVICE_GET_REGION_INFO.</summary>
/// <param name="Index">Its number.</param>
/// <param name="Flags">What can be done with it.</param>
/// <param name="Size">Bytes; 0 for one that the device has not.</param>
/// <param name="Offset">Where it begins in the device's descriptor.</param>
/// <param name="MappableParts">What of it can be mapped and exported; often all but the MSI-X table.</param>
public sealed record VfioRegion(int Index, VfioRegionFlags Flags, ulong Size, ulong Offset, IReadOnlyList<VfioRegionPart> MappableParts);

/// <summary>Kinds of interrupt of a PCI device.</summary>
public enum VfioInterruptKind
{
    /// <summary>The line.</summary>
    Intx = (int)LibC.VFIO_PCI_INTX_IRQ_INDEX,

    /// <summary>Messages.</summary>
    Msi = (int)LibC.VFIO_PCI_MSI_IRQ_INDEX,

    /// <summary>Messages of the table.</summary>
    MsiX = (int)LibC.VFIO_PCI_MSIX_IRQ_INDEX,

    /// <summary>The host saw an uncorrectable error of the device.</summary>
    Error = (int)LibC.VFIO_PCI_ERR_IRQ_INDEX,

    /// <summary>The host wants the device back.</summary>
    Request = (int)LibC.VFIO_PCI_REQ_IRQ_INDEX,
}

/// <summary>What can be done with an interrupt (<c>VFIO_IRQ_INFO_*</c>).</summary>
[Flags]
public enum VfioInterruptFlags
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Delivered by eventfd.</summary>
    EventFd = (int)LibC.VFIO_IRQ_INFO_EVENTFD,

    /// <summary>Masked.</summary>
    Maskable = (int)LibC.VFIO_IRQ_INFO_MASKABLE,

    /// <summary>Masks itself when it fires.</summary>
    AutoMasked = (int)LibC.VFIO_IRQ_INFO_AUTOMASKED,

    /// <summary>Must be set for all at once.</summary>
    NoResize = (int)LibC.VFIO_IRQ_INFO_NORESIZE,
}

/// <summary>VFIO_DEVICE_GET_IRQ_INFO.</summary>
/// <param name="Kind">The kind.</param>
/// <param name="Count">How many.</param>
/// <param name="Flags">What can be done with them.</param>
public sealed record VfioInterrupt(VfioInterruptKind Kind, int Count, VfioInterruptFlags Flags);
