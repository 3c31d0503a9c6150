using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>Keeps a new VMM from resetting passed-through devices that the guest is using on the old one.</summary>
/// <remarks>
/// A QEMU that starts resets its machine. For devices it skips that while it waits for a cpr state (<c>vfio_pci_reset</c>), but not for those without
/// a function-level reset: <c>vfio_reset_handler</c> takes memory decoding and bus mastering from them and tries a hot reset of their bus
/// (<c>hw/vfio/pci.c</c>, 11.1.3: <c>vfio_pci_pre_reset</c>, <c>vfio_pci_hot_reset_multi</c>). The guest's next access to such a device then ends
/// it: KVM says "Bad address". Until it has the guest, a VMM has nothing of that kind to tell a device.
/// </remarks>
internal static class ResetGuard
{
    private const long Pwrite64 = 18;
    private const long Ioctl = 16;

    // linux/vfio.h: VFIO_PCI_CONFIG_REGION_INDEX, and VFIO_PCI_INDEX_TO_OFFSET of drivers/vfio/pci/vfio_pci_core.h.
    private const int ConfigRegion = 7;
    private const int RegionShift = 40;
    private const ulong DeviceReset = 0x3b6f;
    private const ulong PciHotReset = 0x3b71;

    // linux/pci_regs.h
    private const ulong Command = 0x04;
    private const ulong FirstBar = 0x10;
    private const ulong LastBar = 0x24;

    /// <summary>Holds until it is disposed of; null where no device needs it.</summary>
    /// <exception cref="UpdateException">The VMM may not be traced: a refusal.</exception>
    public static async Task<SyscallGuard?> BeginAsync(PidFd vmm, IEnumerable<PassedThroughDevice> devices)
    {
        var inDanger = devices.Where(d => !d.HasFunctionLevelReset).Select(d => d.Name).ToList();
        if (inDanger.Count == 0)
            return null;
        try
        {
            return await SyscallGuard.BeginAsync(vmm, Answer);
        }
        catch (Exception e) when (e is SyscallException or PlatformNotSupportedException)
        {
            throw new UpdateException(
                "vfio-reset", $"{string.Join(", ", inDanger)}: without a function-level reset, and the new VMM cannot be kept from resetting it under the guest: {e.Message}",
                "allow the supervisor to trace its children (kernel.yama.ptrace_scope below 3), or unplug the device for the update (device_del)", e)
            {
                IsRefusal = true,
            };
        }
    }

    /// <summary>What such a call returns that is not made; null for every other.</summary>
    public static long? Answer(SystemCall call) => call.Number switch
    {
        Ioctl when call.Second is DeviceReset or PciHotReset => 0,
        Pwrite64 when call.Fourth >> RegionShift == ConfigRegion && IsReset(call.Fourth & ((1UL << RegionShift) - 1)) => (long)call.Third,
        _ => null,
    };

    private static bool IsReset(ulong register) => register is Command or (>= FirstBar and <= LastBar);
}
