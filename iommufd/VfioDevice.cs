using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>
/// A VFIO device by its character device (<c>/dev/vfio/devices/vfioN</c>). Owns its descriptor. When the last descriptor of the
/// open file goes, in whichever process, the kernel resets the device: that must never happen during an update.
/// </summary>
/// <remarks>A device has one open file at a time: a second one cannot be bound (EINVAL), so only this one can be handed over.</remarks>
public sealed partial class VfioDevice : IDisposable
{
    private const string Devices = "/dev/vfio/devices/";

    private readonly IoctlChannel _channel;

    private VfioDevice(SafeFileHandle handle, string name, IOperationRecorder? recorder)
    {
        _channel = new IoctlChannel(handle, recorder);
        Name = name;
    }

    /// <summary>What messages and records call it, for example <c>0000:00:03.0</c>.</summary>
    public string Name { get; }

    /// <summary>The descriptor, for handing over; stays owned by this object.</summary>
    public SafeFileHandle Handle => _channel.Handle;

    /// <summary>Opens a character device.</summary>
    /// <param name="path">For example <c>/dev/vfio/devices/vfio0</c>.</param>
    /// <param name="recorder">Who is told of changes.</param>
    /// <param name="name">What to call it; null for the path.</param>
    /// <exception cref="IOException">Not there, or not permitted.</exception>
    public static VfioDevice Open(string path, IOperationRecorder? recorder = null, string? name = null) =>
        new(File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite), name ?? path, recorder);

    /// <summary>Opens a PCI device that is bound to vfio-pci.</summary>
    /// <param name="address">For example <c>0000:00:03.0</c>.</param>
    /// <param name="recorder">Who is told of changes.</param>
    /// <exception cref="DirectoryNotFoundException">No such device, or it is not bound to a VFIO driver, or the kernel has no VFIO character devices.</exception>
    public static VfioDevice OpenPci(string address, IOperationRecorder? recorder = null) => Open(PathOfPci(address), recorder, address);

    /// <summary>The character device of a PCI device that is bound to vfio-pci.</summary>
    /// <param name="address">For example <c>0000:00:03.0</c>.</param>
    /// <exception cref="DirectoryNotFoundException">No such device, or it is not bound to a VFIO driver, or the kernel has no VFIO character devices.</exception>
    public static string PathOfPci(string address)
    {
        ArgumentException.ThrowIfNullOrEmpty(address);
        var directory = $"/sys/bus/pci/devices/{address}/vfio-dev";
        var name = Path.GetFileName(Directory.GetDirectories(directory, "vfio*").FirstOrDefault())
            ?? throw new DirectoryNotFoundException($"{directory} is empty: {address} is not bound to a VFIO driver.");
        return $"{Devices}{name}";
    }

    /// <summary>The PCI device that a character device belongs to.</summary>
    /// <param name="path">For example <c>/dev/vfio/devices/vfio0</c>.</param>
    /// <returns>Its address, such as <c>0000:00:03.0</c>; null when the path is no VFIO character device's, or there is no such device.</returns>
    public static string? PciOfPath(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return path.StartsWith(Devices, StringComparison.Ordinal)
            ? Path.GetFileName(new FileInfo($"/sys/class/vfio-dev/{Path.GetFileName(path)}/device").LinkTarget)
            : null;
    }

    /// <summary>Takes over a device that another process opened, and perhaps bound and attached.</summary>
    /// <param name="handle">Its descriptor; owned by the new object from now on.</param>
    /// <param name="name">What to call it.</param>
    /// <param name="recorder">Who is told of changes.</param>
    /// <exception cref="ArgumentException">The descriptor is something else.</exception>
    public static VfioDevice Adopt(SafeFileHandle handle, string name, IOperationRecorder? recorder = null)
    {
        ArgumentNullException.ThrowIfNull(handle);
        var info = DescriptorInfo.Of(handle);
        return info.Kind == DescriptorKind.VfioDevice
            ? new VfioDevice(handle, name, recorder)
            : throw new ArgumentException($"{info.Path} is no VFIO device.", nameof(handle));
    }

    /// <summary>Binds the device to a context, once in the life of the open file. Most other calls are refused before.</summary>
    /// <param name="context">The context.</param>
    /// <param name="token">The secret between a physical function and its virtual ones, where one was set.</param>
    /// <exception cref="IommufdException">EINVAL: bound already, or open elsewhere; EPERM: interrupts are not isolated; EBUSY.</exception>
    public unsafe DeviceId Bind(IommufdContext context, Guid? token = null)
    {
        ArgumentNullException.ThrowIfNull(context);
        using var lease = new HandleLease(context.Handle);
        var uuid = (token ?? Guid.Empty).ToByteArray(bigEndian: true);
        fixed (byte* bytes = uuid)
        {
            var argument = new LibC.vfio_device_bind_iommufd
            {
                argsz = (uint)sizeof(LibC.vfio_device_bind_iommufd),
                flags = token is null ? 0 : LibC.VFIO_DEVICE_BIND_FLAG_TOKEN,
                iommufd = lease.Number,
                token_uuid_ptr = token is null ? 0 : (ulong)bytes,
            };
            _channel.Change(
                "VFIO_DEVICE_BIND_IOMMUFD",
                LibC.VFIO_DEVICE_BIND_IOMMUFD,
                &argument,
                Name,
                null,
                new BindDeviceOperation(Name),
                &argument.out_devid);
            return new DeviceId(argument.out_devid);
        }
    }

    /// <summary>Attaches the device, or moves it to another page table when it is attached already. Pins what is mapped.</summary>
    /// <remarks>
    /// Moving is not hitless: DMA during the switch is discarded (iommu_group_set_domain: "This switch does not have to be atomic").
    /// An automatic page table that nobody uses afterwards is destroyed.
    /// </remarks>
    /// <param name="device">The device's id.</param>
    /// <param name="pageTable">An IOAS or a HWPT.</param>
    /// <param name="pasid">Which of the device's address spaces; null for the device as such.</param>
    /// <returns>The HWPT; for a device without one (an mdev) the IOAS.</returns>
    /// <exception cref="IommufdException">EINVAL, EADDRINUSE, ENOMEM (RLIMIT_MEMLOCK), EBUSY; see <see cref="ErrnoAdvice"/>.</exception>
    public unsafe HwptId Attach(DeviceId device, PageTableId pageTable, uint? pasid = null)
    {
        var argument = new LibC.vfio_device_attach_iommufd_pt
        {
            argsz = (uint)sizeof(LibC.vfio_device_attach_iommufd_pt),
            flags = pasid is null ? 0 : LibC.VFIO_DEVICE_ATTACH_PASID,
            pt_id = pageTable.Id.Value,
            pasid = pasid ?? 0,
        };
        _channel.Change(
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            LibC.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
            &argument,
            $"{Name} to {pageTable}",
            null,
            new AttachDeviceOperation(device, pageTable, pasid),
            &argument.pt_id);
        return new HwptId(argument.pt_id);
    }

    /// <summary>Detaches the device; its DMA is blocked from then on.</summary>
    /// <param name="device">The device's id.</param>
    /// <param name="pasid">Which of the device's address spaces; null for the device as such.</param>
    public unsafe void Detach(DeviceId device, uint? pasid = null)
    {
        var argument = new LibC.vfio_device_detach_iommufd_pt
        {
            argsz = (uint)sizeof(LibC.vfio_device_detach_iommufd_pt),
            flags = pasid is null ? 0 : LibC.VFIO_DEVICE_DETACH_PASID,
            pasid = pasid ?? 0,
        };
        _channel.Change(
            "VFIO_DEVICE_DETACH_IOMMUFD_PT",
            LibC.VFIO_DEVICE_DETACH_IOMMUFD_PT,
            &argument,
            Name,
            null,
            new DetachDeviceOperation(device, pasid));
    }

    /// <summary>What the device is.</summary>
    public unsafe VfioDeviceInfo GetInfo()
    {
        var argument = new LibC.vfio_device_info { argsz = (uint)sizeof(LibC.vfio_device_info) };
        _channel.Ask("VFIO_DEVICE_GET_INFO", LibC.VFIO_DEVICE_GET_INFO, &argument, Name);
        return new VfioDeviceInfo((VfioDeviceFlags)argument.flags, (int)argument.num_regions, (int)argument.num_irqs);
    }

    /// <summary>Resets the device.</summary>
    /// <exception cref="IommufdException">ENOTTY: it cannot be reset on its own.</exception>
    public unsafe void Reset() => _channel.Ask("VFIO_DEVICE_RESET", LibC.VFIO_DEVICE_RESET, null, Name);

    /// <summary>Which devices a hot reset of this one's bus would hit.</summary>
    public unsafe IReadOnlyList<HotResetDevice> GetHotResetDevices()
    {
        var count = 8;
        while (true)
        {
            var length = sizeof(LibC.vfio_pci_hot_reset_info) + count * sizeof(LibC.vfio_pci_dependent_device);
            var buffer = new byte[length];
            fixed (byte* bytes = buffer)
            {
                var header = (LibC.vfio_pci_hot_reset_info*)bytes;
                header->argsz = (uint)length;
                var errno = _channel.Try(LibC.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes);
                if (errno == ErrnoNumbers.ENOSPC && header->count > count)
                {
                    count = (int)header->count;
                    continue;
                }

                if (errno != 0)
                    throw new IommufdException("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", Name, null, errno);
                var devices = new ReadOnlySpan<LibC.vfio_pci_dependent_device>(bytes + sizeof(LibC.vfio_pci_hot_reset_info), (int)header->count);
                var list = new List<HotResetDevice>();
                foreach (var one in devices)
                    list.Add(new HotResetDevice($"{one.segment:x4}:{one.bus:x2}:{one.devfn >> 3:x2}.{one.devfn & 7}", (int)one.devid));
                return list;
            }
        }
    }

    /// <summary>Resets the bus that the device is on; every device on it must belong to the same context.</summary>
    public unsafe void HotReset()
    {
        var argument = new LibC.vfio_pci_hot_reset { argsz = (uint)sizeof(LibC.vfio_pci_hot_reset) };
        _channel.Ask("VFIO_DEVICE_PCI_HOT_RESET", LibC.VFIO_DEVICE_PCI_HOT_RESET, &argument, Name);
    }

    /// <inheritdoc />
    public void Dispose() => _channel.Handle.Dispose();
}

/// <summary>What a device is (<c>VFIO_DEVICE_FLAGS_*</c>).</summary>
[Flags]
public enum VfioDeviceFlags
{
    /// <summary>None of the below.</summary>
    None = 0,

    /// <summary>Can be reset.</summary>
    Reset = (int)LibC.VFIO_DEVICE_FLAGS_RESET,

    /// <summary>PCI.</summary>
    Pci = (int)LibC.VFIO_DEVICE_FLAGS_PCI,

    /// <summary>Platform device.</summary>
    Platform = (int)LibC.VFIO_DEVICE_FLAGS_PLATFORM,

    /// <summary>AMBA.</summary>
    Amba = (int)LibC.VFIO_DEVICE_FLAGS_AMBA,

    /// <summary>s390 channel.</summary>
    Ccw = (int)LibC.VFIO_DEVICE_FLAGS_CCW,

    /// <summary>s390 adjunct processor.</summary>
    Ap = (int)LibC.VFIO_DEVICE_FLAGS_AP,

    /// <summary>NXP fsl-mc.</summary>
    FslMc = (int)LibC.VFIO_DEVICE_FLAGS_FSL_MC,

    /// <summary>The kernel has more to say than this library reads.</summary>
    Capabilities = (int)LibC.VFIO_DEVICE_FLAGS_CAPS,

    /// <summary>AMD CDX.</summary>
    Cdx = (int)LibC.VFIO_DEVICE_FLAGS_CDX,
}

/// <summary>VFIO_DEVICE_GET_INFO.</summary>
/// <param name="Flags">What it is.</param>
/// <param name="RegionCount">Regions; for PCI 0-5 are the BARs, 6 the ROM, 7 the configuration space.</param>
/// <param name="InterruptCount">Kinds of interrupt; for PCI INTx, MSI, MSI-X, error, request.</param>
public sealed record VfioDeviceInfo(VfioDeviceFlags Flags, int RegionCount, int InterruptCount);

/// <summary>A device that a hot reset would hit.</summary>
/// <param name="Address">PCI address.</param>
/// <param name="Id">Its id in the same context; 0 when it needs none there, -1 when somebody else owns it.</param>
public sealed record HotResetDevice(string Address, int Id);
