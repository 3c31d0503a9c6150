using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Device types that cannot be moved to another VMM, with the reason.</summary>
/// <remarks>Types whose VMStateDescription is <c>unmigratable</c> or that add a migration blocker, in QEMU 7.2 to 11.1 (<c>hw/</c>).</remarks>
internal static class DeviceRules
{
    private static readonly Dictionary<string, string> Unmovable = new(StringComparer.Ordinal)
    {
        ["nvme"] = "QEMU's emulated NVMe controller has no migratable state",
        ["nvme-ns"] = "QEMU's emulated NVMe namespaces have no migratable state",
        ["edu"] = "the educational device has no migratable state",
        ["ivshmem-plain"] = "shared memory with master=on cannot be moved",
        ["ivshmem-doorbell"] = "its peers are connected to this process",
        ["virtio-9p-pci"] = "a mounted 9p file system blocks migration",
        ["virtio-gpu-gl-pci"] = "the host's OpenGL context cannot be moved",
        ["virtio-vga-gl"] = "the host's OpenGL context cannot be moved",
        ["virtio-gpu-rutabaga-pci"] = "the host's graphics context cannot be moved",
        ["usb-host"] = "a host USB device is claimed by this process; the guest would see it unplugged",
        ["usb-redir"] = "its peer is connected to this process",
        ["usb-mtp"] = "it has no migratable state",
        ["vhost-scsi"] = "the kernel's vhost-scsi state belongs to this process",
        ["vhost-vdpa-device-pci"] = "the vDPA device belongs to this process",
        ["vhost-user-fs-pci"] = "virtiofsd is connected to this process",
        ["vhost-user-blk-pci"] = "the vhost-user back-end is connected to this process",
        ["vhost-vsock-pci"] = "its CID belongs to this process until it ends",
    };

    public static IEnumerable<Finding> Check(VmInspection vm)
    {
        var any = false;
        foreach (var device in vm.Devices)
        {
            var name = device.Id ?? device.Path;
            if (Unmovable.TryGetValue(device.Type, out var reason) && reason.Length > 0)
            {
                any = true;
                yield return Finding.Fail("device-not-migratable", name, $"{device.Type}: {reason}", Remedy(device));
            }
        }

        if (!any)
            yield return Finding.Pass("devices", "machine", $"{vm.Devices.Count(d => d.Id is not null || d.IsAnonymous)} devices, none of a type that cannot be moved");
    }

    /// <summary>A new VMM would connect anew to what a remaining chardev names.</summary>
    private static string Remedy(QomDevice device) => device.Type.StartsWith("vhost-user", StringComparison.Ordinal)
        ? "unplug the device for the update, and its chardev with it (device_del, chardev-remove)"
        : "unplug the device for the update (device_del)";
}
