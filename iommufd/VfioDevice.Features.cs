using System.Runtime.InteropServices;
using CprSharp.Iommufd.Interop;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>VFIO_DEVICE_FEATURE: migration states, the record of writes, BARs as dma-bufs.</summary>
public sealed partial class VfioDevice
{
    private const uint O_RDWR = 2;
    private const uint O_CLOEXEC = 0x80000;

    /// <summary>Whether the device has a feature.</summary>
    /// <param name="feature">Which.</param>
    public unsafe bool HasFeature(VfioFeature feature)
    {
        var argument = new LibC.vfio_device_feature
        {
            argsz = (uint)sizeof(LibC.vfio_device_feature),
            flags = (uint)feature | LibC.VFIO_DEVICE_FEATURE_PROBE,
        };
        return _channel.Try(LibC.VFIO_DEVICE_FEATURE, &argument) == 0;
    }

    /// <summary>What the device's driver can do for a migration; none for most devices.</summary>
    public VfioMigrationFlags GetMigrationSupport() => HasFeature(VfioFeature.Migration)
        ? (VfioMigrationFlags)Get<LibC.vfio_device_feature_migration>(VfioFeature.Migration, default).flags
        : VfioMigrationFlags.None;

    /// <summary>The migration state.</summary>
    /// <exception cref="IommufdException">ENOTTY: the driver has no migration.</exception>
    public VfioMigrationState GetMigrationState() =>
        (VfioMigrationState)Get<LibC.vfio_device_feature_mig_state>(VfioFeature.MigrationState, default).device_state;

    /// <summary>Moves the device to a migration state; in <see cref="VfioMigrationState.Stop"/> it does no DMA and fires no interrupt.</summary>
    /// <returns>The stream that states with a transfer come with; the caller owns it.</returns>
    /// <exception cref="IommufdException">ENOTTY: the driver has no migration; EINVAL: no way leads there. The state may be another one then.</exception>
    public unsafe SafeFileHandle? SetMigrationState(VfioMigrationState state)
    {
        var data = new LibC.vfio_device_feature_mig_state { device_state = (uint)state, data_fd = -1 };
        var result = Exchange(VfioFeature.MigrationState, LibC.VFIO_DEVICE_FEATURE_SET, data);
        return result.data_fd >= 0 ? new SafeFileHandle(result.data_fd, ownsHandle: true) : null;
    }

    /// <summary>About how many bytes the device's state has when stopped.</summary>
    public ulong GetMigrationDataSize() => Get<LibC.vfio_device_feature_mig_data_size>(VfioFeature.MigrationDataSize, default).stop_copy_length;

    /// <summary>Exports part of a BAR as dma-buf, which can be mapped for other devices (Linux 6.19 with CONFIG_VFIO_PCI_DMABUF).</summary>
    /// <param name="region">A BAR, 0 to 5.</param>
    /// <param name="part">Multiples of the page; within the BAR.</param>
    /// <returns>A descriptor that the caller owns.</returns>
    /// <exception cref="IommufdException">ENOTTY or EOPNOTSUPP: not supported; EINVAL: misaligned; ENODEV: no such BAR.</exception>
    public unsafe SafeFileHandle ExportDmaBuf(int region, VfioRegionPart part)
    {
        var argument = new DmaBufArgument
        {
            Header = Header<DmaBufArgument>(VfioFeature.DmaBuf, LibC.VFIO_DEVICE_FEATURE_GET),
            DmaBuf = new LibC.vfio_device_feature_dma_buf { region_index = (uint)region, open_flags = O_RDWR | O_CLOEXEC, nr_ranges = 1 },
            Range = new LibC.vfio_region_dma_range { offset = part.Offset, length = part.Size },
        };
        int result;
        do
            result = LibC.ioctl(Handle, LibC.VFIO_DEVICE_FEATURE, &argument);
        while (result < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return result >= 0
            ? new SafeFileHandle(result, ownsHandle: true)
            : throw new IommufdException("VFIO_DEVICE_FEATURE", $"{Name}, DMA_BUF of region {region}", null, Marshal.GetLastPInvokeError());
    }

    /// <summary>Starts the device's own record of the pages that it writes to.</summary>
    /// <param name="pageSize">Bytes per bit that are wished for.</param>
    /// <param name="ranges">What to record.</param>
    /// <returns>Bytes per bit that the device has chosen.</returns>
    public unsafe ulong StartDmaLogging(ulong pageSize, params ReadOnlySpan<IovaRange> ranges)
    {
        var list = new LibC.vfio_device_feature_dma_logging_range[ranges.Length];
        for (var i = 0; i < list.Length; i++)
            list[i] = new LibC.vfio_device_feature_dma_logging_range { iova = ranges[i].Start, length = ranges[i].Length };
        fixed (LibC.vfio_device_feature_dma_logging_range* pointer = list)
        {
            var data = new LibC.vfio_device_feature_dma_logging_control { page_size = pageSize, num_ranges = (uint)list.Length, ranges = (ulong)pointer };
            return Exchange(VfioFeature.DmaLoggingStart, LibC.VFIO_DEVICE_FEATURE_SET, data).page_size;
        }
    }

    /// <summary>Ends the record.</summary>
    public unsafe void StopDmaLogging()
    {
        var argument = Header(VfioFeature.DmaLoggingStop, LibC.VFIO_DEVICE_FEATURE_SET, 0);
        _channel.Ask("VFIO_DEVICE_FEATURE", LibC.VFIO_DEVICE_FEATURE, &argument, $"{Name}, {VfioFeature.DmaLoggingStop}");
    }

    /// <summary>Reads and clears the record.</summary>
    /// <param name="range">Which part.</param>
    /// <param name="pageSize">Bytes per bit, a power of two.</param>
    /// <param name="bitmap">Bits are only ever set.</param>
    public unsafe void GetDmaLog(IovaRange range, ulong pageSize, Span<ulong> bitmap)
    {
        fixed (ulong* pointer = bitmap)
        {
            Get(
                VfioFeature.DmaLoggingReport,
                new LibC.vfio_device_feature_dma_logging_report { iova = range.Start, length = range.Length, page_size = pageSize, bitmap = (ulong)pointer });
        }
    }

    /// <summary>Allows or stops DMA of a device whose bus has no such control of its own (CDX); PCI has <see cref="SetPciBusMaster"/>.</summary>
    public void SetBusMaster(bool enabled) =>
        Exchange(VfioFeature.BusMaster, LibC.VFIO_DEVICE_FEATURE_SET, new LibC.vfio_device_feature_bus_master { op = enabled ? 1u : 0 });

    private static unsafe LibC.vfio_device_feature Header<T>(VfioFeature feature, uint direction)
        where T : unmanaged => Header(feature, direction, sizeof(T) - sizeof(LibC.vfio_device_feature));

    private static unsafe LibC.vfio_device_feature Header(VfioFeature feature, uint direction, int dataLength) => new()
    {
        argsz = (uint)(sizeof(LibC.vfio_device_feature) + dataLength),
        flags = (uint)feature | direction,
    };

    private T Get<T>(VfioFeature feature, T data)
        where T : unmanaged => Exchange(feature, LibC.VFIO_DEVICE_FEATURE_GET, data);

    private unsafe T Exchange<T>(VfioFeature feature, uint direction, T data)
        where T : unmanaged
    {
        var buffer = stackalloc byte[sizeof(LibC.vfio_device_feature) + sizeof(T)];
        *(LibC.vfio_device_feature*)buffer = Header(feature, direction, sizeof(T));
        var body = (T*)(buffer + sizeof(LibC.vfio_device_feature));
        *body = data;
        _channel.Ask("VFIO_DEVICE_FEATURE", LibC.VFIO_DEVICE_FEATURE, buffer, $"{Name}, {feature}");
        return *body;
    }

    [StructLayout(LayoutKind.Sequential, Size = 40)]
    private struct DmaBufArgument
    {
        internal LibC.vfio_device_feature Header;
        internal LibC.vfio_device_feature_dma_buf DmaBuf;
        internal LibC.vfio_region_dma_range Range;
    }
}

/// <summary>Features of a device (<c>VFIO_DEVICE_FEATURE_*</c>).</summary>
public enum VfioFeature
{
    /// <summary>The secret between physical and virtual functions.</summary>
    PciVfToken = (int)LibC.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,

    /// <summary>Migration.</summary>
    Migration = (int)LibC.VFIO_DEVICE_FEATURE_MIGRATION,

    /// <summary>The migration state.</summary>
    MigrationState = (int)LibC.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,

    /// <summary>Low power.</summary>
    LowPowerEntry = (int)LibC.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,

    /// <summary>Low power until woken.</summary>
    LowPowerEntryWithWakeup = (int)LibC.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,

    /// <summary>Full power.</summary>
    LowPowerExit = (int)LibC.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,

    /// <summary>Begin to record writes.</summary>
    DmaLoggingStart = (int)LibC.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,

    /// <summary>End it.</summary>
    DmaLoggingStop = (int)LibC.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,

    /// <summary>Read the record.</summary>
    DmaLoggingReport = (int)LibC.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,

    /// <summary>Bytes of the state.</summary>
    MigrationDataSize = (int)LibC.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,

    /// <summary>DMA on and off, where the bus has no control.</summary>
    BusMaster = (int)LibC.VFIO_DEVICE_FEATURE_BUS_MASTER,

    /// <summary>BARs as dma-bufs.</summary>
    DmaBuf = (int)LibC.VFIO_DEVICE_FEATURE_DMA_BUF,
}

/// <summary>What a driver can do for a migration (<c>VFIO_MIGRATION_*</c>).</summary>
[Flags]
public enum VfioMigrationFlags : ulong
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Stop, and read and write the state.</summary>
    StopCopy = LibC.VFIO_MIGRATION_STOP_COPY,

    /// <summary>Stop what goes to other devices first.</summary>
    PeerToPeer = LibC.VFIO_MIGRATION_P2P,

    /// <summary>Read the state while running.</summary>
    PreCopy = LibC.VFIO_MIGRATION_PRE_COPY,
}

/// <summary>Migration states (<c>enum vfio_device_mig_state</c>).</summary>
public enum VfioMigrationState
{
    /// <summary>Failed; must be reset.</summary>
    Error = (int)LibC.VFIO_DEVICE_STATE_ERROR,

    /// <summary>Changes nothing any more, inside or outside.</summary>
    Stop = (int)LibC.VFIO_DEVICE_STATE_STOP,

    /// <summary>Works.</summary>
    Running = (int)LibC.VFIO_DEVICE_STATE_RUNNING,

    /// <summary>Stopped, and its state can be read.</summary>
    StopCopy = (int)LibC.VFIO_DEVICE_STATE_STOP_COPY,

    /// <summary>Stopped, and takes a state.</summary>
    Resuming = (int)LibC.VFIO_DEVICE_STATE_RESUMING,

    /// <summary>Works, but not with other devices.</summary>
    RunningP2P = (int)LibC.VFIO_DEVICE_STATE_RUNNING_P2P,

    /// <summary>Works, and its state can be read.</summary>
    PreCopy = (int)LibC.VFIO_DEVICE_STATE_PRE_COPY,

    /// <summary>Works, but not with other devices, and its state can be read.</summary>
    PreCopyP2P = (int)LibC.VFIO_DEVICE_STATE_PRE_COPY_P2P,
}
