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

    public static SafeFileHandle OpenIommufd(string name) =>
        Open(IommufdContext.DevicePath, static path => path, name, "run the supervisor as a user who may, on a kernel with CONFIG_IOMMUFD");

    public static SafeFileHandle OpenDevice(PassedThroughDescriptor device) => device.Host is { } host ? OpenPci(device.Device, host) : Take(device);

    /// <param name="name">The device's.</param>
    /// <param name="host">Its address, which QEMU takes without a domain, too.</param>
    private static SafeFileHandle OpenPci(string name, string host) =>
        Open(
            host.Count(c => c == ':') == 1 ? $"0000:{host}" : host, VfioDevice.PathOfPci, name, "bind the device to vfio-pci, and run the supervisor as a user who may open /dev/vfio/devices");

    private static SafeFileHandle Open(string what, Func<string, string> pathOf, string name, string fix)
    {
        try
        {
            return File.OpenHandle(pathOf(what), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UpdateException(Code, $"cannot open {what} for {name}: {e.Message}", fix, e);
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
