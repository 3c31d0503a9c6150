using CprSharp.Iommufd;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Opens the IOMMU and passed-through devices in QEMU's place. The caller owns what it gets.</summary>
internal static class DeviceOpener
{
    private const string Code = "device-open";

    public static SafeFileHandle OpenIommufd(string name)
    {
        try
        {
            return File.OpenHandle(IommufdContext.DevicePath, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UpdateException(Code, $"cannot open {IommufdContext.DevicePath} for {name}: {e.Message}", "run the supervisor as a user who may, on a kernel with CONFIG_IOMMUFD", e);
        }
    }

    public static SafeFileHandle OpenDevice(PassedThroughDescriptor device) => device.Host is { } host ? OpenPci(device.Device, host) : Take(device);

    private static SafeFileHandle OpenPci(string name, string host)
    {
        // QEMU takes an address without a domain, too.
        var address = host.Count(c => c == ':') == 1 ? $"0000:{host}" : host;
        try
        {
            return File.OpenHandle(VfioDevice.PathOfPci(address), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UpdateException(Code, $"cannot open {address} for {name}: {e.Message}", "bind the device to vfio-pci, and run the supervisor as a user who may open /dev/vfio/devices", e);
        }
    }

    /// <summary>The caller's own: nobody else here is to have it, or an unplugged device would stay in use.</summary>
    private static SafeFileHandle Take(PassedThroughDescriptor device)
    {
        var handle = new SafeFileHandle(device.Number, ownsHandle: true);
        try
        {
            var info = DescriptorInfo.Of(handle);
            return info.Kind == DescriptorKind.VfioDevice
                ? handle
                : throw new UpdateException("descriptor-wrong", $"the command line names descriptor {device.Number} for {device.Device}, which is {info.Path} and no VFIO device", "pass an opened /dev/vfio/devices/vfioN");
        }
        catch (SyscallException e)
        {
            handle.SetHandleAsInvalid();
            throw new UpdateException("descriptor-missing", $"the command line names descriptor {device.Number} for {device.Device}, which the supervisor was not given: {e.Message}", "pass it, or remove the option", e);
        }
    }
}
