using System.Collections.Frozen;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Which options QEMU knows, and which of them take an argument.</summary>
/// <remarks>Union of the system emulators' options of QEMU 7.2 to 11.1 for every target (qemu-options.hx), and of options
/// removed before, so that QEMU itself gives its own message about them.</remarks>
internal static class OptionTable
{
    private const string WithArgument =
        "D L M accel acpitable action add-fd append audio audiodev bios blockdev boot cdrom chardev chroot compat cpu d " +
        "debugcon device dfilter display drive dtb dump-vmstate echr fda fdb fsdev fw_cfg g gdb global hda hdb hdc hdd icount " +
        "incoming initrd iscsi k kernel loadvm m machine mem-path mon monitor msg mtdblock name net netdev nic numa " +
        "object option-rom overcommit parallel pflash pidfile plugin prom-env qmp qmp-pretty qtest qtest-log readconfig " +
        "rotate rtc run-with runas sandbox sd seed semihosting-config serial set shim smbios smp spice tpmdev trace usbdevice " +
        "uuid vga virtfs vnc watchdog-action xen-domid " +
        // Removed before 7.2.
        "balloon bt clock soundhw tb-size watchdog writeconfig";

    private const string WithoutArgument =
        "S async-teardown audio-help daemonize enable-kvm enable-sync-profile full-screen h help jitdump mem-prealloc " +
        "no-acpi no-fd-bootchk no-hpet no-reboot no-shutdown no-user-config nodefaults nographic old-param only-migratable " +
        "perfmap portrait preconfig s semihosting singlestep snapshot usb version win2k-hack xen-attach xen-domid-restrict " +
        // Removed before 7.2.
        "alt-grab ctrl-grab curses enable-fips enable-hax no-frame no-kvm no-kvm-irqchip no-kvm-pit no-quit nodefconfig " +
        "sdl show-cursor virtfs_synth xen-create";

    private static readonly FrozenDictionary<string, bool> TakesArgument =
        Words(WithArgument).Select(static name => KeyValuePair.Create(name, true))
            .Concat(Words(WithoutArgument).Select(static name => KeyValuePair.Create(name, false)))
            .ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Whether QEMU knows the option, and if so whether it takes an argument.</summary>
    public static bool TryGet(string name, out bool takesArgument) => TakesArgument.TryGetValue(name, out takesArgument);

    private static string[] Words(string text) => text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
}
