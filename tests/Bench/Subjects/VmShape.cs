namespace CprSharp.Bench.Subjects;

/// <summary>A VM as both drivers start it; guest RAM is theirs to add.</summary>
/// <param name="Name">Short, for tables and file names.</param>
/// <param name="MemoryMiB">Guest RAM.</param>
/// <param name="Arguments">The rest of QEMU's command line.</param>
/// <param name="BootsLinux">Whether a guest reports on the serial line that it is up; otherwise the firmware idles.</param>
internal sealed record VmShape(string Name, int MemoryMiB, IReadOnlyList<string> Arguments, bool BootsLinux)
{
    public const string Machine = "pc-q35-10.0";

    private static readonly string[] Common = ["-accel", "tcg", "-nodefaults", "-display", "none"];

    /// <summary>No devices but the machine's own.</summary>
    public static VmShape Small(int memoryMiB = 512) => new("small", memoryMiB, Common, BootsLinux: false);

    /// <summary>What a server has, with a Linux guest that works a little.</summary>
    public static VmShape Large(Components components, string disk) => new(
        "large",
        2048,
        [
            .. Common,
            "-smp", "4",
            "-device", "VGA",
            "-netdev", "user,id=net0,restrict=on",
            "-device", "virtio-net-pci,netdev=net0",
            "-drive", $"if=none,id=disk0,format=raw,file={disk}",
            "-device", "virtio-blk-pci,drive=disk0",
            "-device", "qemu-xhci",
            "-device", "usb-tablet",
            "-kernel", components.GuestKernel,
            "-initrd", components.GuestInitrd,
            "-append", components.GuestAppend + " cprsharp.mem=16 cprsharp.duty=5",
        ],
        BootsLinux: true);

    /// <summary>The small one with so many network cards.</summary>
    public static VmShape WithDevices(int count) => new(
        $"devices-{count}",
        512,
        [.. Common, .. Enumerable.Range(0, count).SelectMany(_ => (string[])["-device", "virtio-rng-pci"])],
        BootsLinux: false);
}
