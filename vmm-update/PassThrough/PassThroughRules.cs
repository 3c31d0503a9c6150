using CprSharp.Iommufd;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>When a VM with passed-through devices can be updated. Pure.</summary>
internal static class PassThroughRules
{
    /// <summary>QEMU keeps VFIO devices over <c>cpr-transfer</c> since 10.1. In 10.0 it neither does nor refuses.</summary>
    private static readonly (int Major, int Minor) First = (10, 1);

    /// <summary>Video memory and ROMs are pinned, too.</summary>
    private const ulong Spare = 256UL << 20;

    public static IEnumerable<Finding> Check(VmInspection vm, QemuBinary target, IommufdSupport kernel)
    {
        if (vm.PassedThrough.IsEmpty)
            yield break;

        var names = string.Join(", ", vm.PassedThrough.Select(d => d.Name));
        if (vm.Accelerator != "kvm")
        {
            yield return Finding.Fail(
                "vfio", names, $"passed-through device under {vm.Accelerator.ToUpperInvariant()}: QEMU crashes in such an update and the guest is lost", "run the guest with accel=kvm, or unplug the device for the update (device_del)");
            yield break;
        }

        foreach (var binary in new[] { vm.Facts, target }.Where(b => !b.Version.AtLeast(First.Major, First.Minor)))
            yield return Finding.Fail("vfio", names, $"QEMU {binary.Version} does not hand passed-through devices over", $"use QEMU {First.Major}.{First.Minor} or later at both ends, or unplug the device for the update (device_del)");

        foreach (var device in vm.PassedThrough)
        {
            if (device.Type != "vfio-pci")
                yield return Finding.Fail("vfio", device.Name, $"{device.Type}: only PCI devices can be handed over", "unplug the device for the update (device_del)");
            else if (device.IsMediated)
                yield return Finding.Fail("vfio", device.Name, "mediated device (mdev): its driver has the guest's pages pinned for the old VMM, and QEMU does not hand such devices over", "unplug the device for the update (device_del)");
            else if (!device.ByIommufd)
                yield return Finding.Fail("vfio", device.Name, "attached through a legacy VFIO container, whose mappings cannot be handed over", "start the VM with -object iommufd,id=iommufd0 and iommufd=iommufd0 on the device; what libvirt has to offer, `cprsharp libvirt check` says");
            else if (!device.HasId)
                yield return Finding.Fail("vfio", device.Name, "the device has no id, by which QEMU hands it over", "start the VM with id= on the device");
            else if (device.Host.Length == 0)
                yield return Finding.Fail("vfio", device.Name, "given to QEMU as a descriptor alone: which device of the host it is cannot be told", "start the VM with host= beside fd= on the device");
            else
                yield return Finding.Pass("vfio", device.Name, $"{device.Type} {device.Host} through iommufd, {device.Bars.Length} BARs{(device.HasFunctionLevelReset ? "" : "; it has no function-level reset, and the new VMM is kept from resetting it in another way")}");
        }

        if (vm.PassedThrough.Any(d => d.ByIommufd))
            yield return Support(kernel);
        if (vm.PassedThrough.Length > 1)
        {
            yield return Finding.Warn(
                "peer-to-peer", names, "from when the new VMM opens its devices until the guest goes on, the devices cannot reach each other's BARs: such transfers fail", "avoid peer-to-peer transfers (GPUDirect, NVMe CMB) during the update");
        }
    }

    private static Finding Support(IommufdSupport kernel) => kernel switch
    {
        IommufdSupport.ChangeProcess => Finding.Pass("iommufd", IommufdContext.DevicePath, "the kernel has IOMMU_IOAS_CHANGE_PROCESS"),
        IommufdSupport.NotPermitted => Finding.Warn("iommufd", IommufdContext.DevicePath, "may not be opened, so whether the kernel can hand mappings over is not known; the VMM tries before the pause ends", "run the supervisor as a user who may open it"),
        IommufdSupport.NoDevice => Finding.Fail("iommufd", IommufdContext.DevicePath, "is not there for the supervisor: the kernel has no iommufd, or the supervisor a /dev of its own", "use Linux 6.13 or later with CONFIG_IOMMUFD, and let the supervisor see the device; or unplug the passed-through one for the update (device_del)"),
        _ => Finding.Fail("iommufd", IommufdContext.DevicePath, "this kernel has no IOMMU_IOAS_CHANGE_PROCESS", "use Linux 6.13 or later with CONFIG_IOMMUFD, or unplug the device for the update (device_del)"),
    };

    /// <summary>While <c>IOMMU_IOAS_CHANGE_PROCESS</c> runs, both VMMs' user is charged for the pinned memory; what has CAP_IPC_LOCK never is.</summary>
    public static IEnumerable<Finding> CheckLockedMemory(VmInspection vm, ulong limit, bool exempt)
    {
        if (vm.PassedThrough.IsEmpty)
            yield break;

        var needed = 2 * (ulong)vm.MemoryBackends.Sum(b => b.Size);
        if (exempt)
            yield return Finding.Pass("memlock", "RLIMIT_MEMLOCK", "the VMM has CAP_IPC_LOCK, and no limit holds for it");
        else if (limit < needed)
            yield return Finding.Fail("memlock", "RLIMIT_MEMLOCK", $"{limit >> 20} MiB; for a moment guest RAM counts twice, as pinned by the old and by the new VMM: {needed >> 20} MiB", $"`prlimit --memlock={needed + Spare} --pid` the VMM; to last, LimitMEMLOCK= of its service");
        else
            yield return Finding.Pass("memlock", "RLIMIT_MEMLOCK", limit == ResourceLimit.Unlimited ? "no limit" : $"{limit >> 20} MiB; guest RAM twice is {needed >> 20} MiB");
    }

    /// <summary>Why an engine that starts the new VMM's devices from nothing does not fit; null when it does.</summary>
    public static string? NotWithout(VmInspection vm) =>
        vm.PassedThrough.IsEmpty ? null : $"passed-through devices ({string.Join(", ", vm.PassedThrough.Select(d => d.Name))}) go over with engine transfer only";

    /// <summary>KVM's descriptors are closed by the old VMM when it reports completion (<c>vfio_kvm_device_close</c>): it cannot resume after that.</summary>
    public static bool OldCannotResume(VmInspection vm) => vm is { PassedThrough.IsEmpty: false, Accelerator: "kvm" };
}
