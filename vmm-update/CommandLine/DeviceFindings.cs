namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>What devices, objects and block backends mean for an update, as far as their names tell. What QEMU itself knows to be
/// unmigratable is asked of it at run time.</summary>
internal static class DeviceFindings
{
    public static void Apply(SpecDraft draft)
    {
        foreach (SpecOption option in draft.Options)
        {
            switch (option.Name)
            {
                case "device":
                    Device(draft, OptionString.Parse(option, "driver"));
                    break;
                case "object":
                    Object(draft, OptionString.Parse(option, "qom-type"));
                    break;
                case "drive":
                    Drive(draft, OptionString.Parse(option, null), option);
                    break;
                case "blockdev":
                    Block(draft, OptionString.Parse(option, "driver"));
                    break;
                case "hda" or "hdb" or "hdc" or "hdd" or "cdrom" or "fda" or "fdb":
                    Image(draft, option.Text, option.ToString());
                    break;
                case "fsdev" or "virtfs":
                    draft.Warn("9p", FileSystem(option), "while the guest has it mounted, QEMU refuses to save its state", "unmount it in the guest before an update");
                    break;
                case "tpmdev":
                    draft.Fail("tpm", OptionString.Parse(option, "type")["id"] ?? option.ToString(), "the TPM or its emulator serves one VMM at a time",
                        "run the guest without a TPM");
                    break;
                case "cpu" when option.Text.Split(',')[0] is ("host" or "max") and var model:
                    draft.Warn("cpu-model", $"-cpu {model}", "which features the guest sees depends on the QEMU version; they are compared before the pause",
                        "use a named CPU model");
                    break;
                case "accel":
                    Accelerator(draft, OptionString.Parse(option, "accel")["accel"]);
                    break;
                case "machine":
                    Accelerator(draft, OptionString.Parse(option, "type")["accel"]);
                    break;
                default:
                    break;
            }
        }
    }

    public static void Device(TranslationNotes notes, OptionString device)
    {
        string driver = device["driver"] ?? "";
        string id = device["id"] ?? driver;
        if (driver.Begins("vhost-user"))
        {
            notes.Fail("vhost-user", id, "the vhost-user process serves one VMM at a time", "unplug it for the update, and its chardev with it (device_del, chardev-remove); or use a device that QEMU itself serves (virtio-blk, virtio-net, virtio-9p)");
        }
        else if (driver.Begins("vhost-vsock") || driver.Begins("vhost-scsi") || driver.Begins("vhost-vdpa"))
        {
            notes.Fail("vhost", id, "the kernel's vhost worker is bound to one process; QEMU cannot hand it over", "remove the device before an update");
        }
        else if (driver.Begins("virtio-9p"))
        {
            notes.Warn("9p", id, "while the guest has it mounted, QEMU refuses to save its state", "unmount it in the guest before an update");
        }
        else if (driver.Is("usb-host"))
        {
            notes.Warn("usb-host", id, "the guest sees the host's USB device unplugged and plugged in again", "detach it before an update");
        }
    }

    public static void Object(TranslationNotes notes, OptionString value)
    {
        string type = value["qom-type"] ?? "";
        string id = value["id"] ?? type;
        switch (type)
        {
            case "sev-guest" or "sev-snp-guest" or "tdx-guest":
                notes.Fail("confidential-guest", id, "the guest's memory is encrypted or private to it: another process cannot map it",
                    "run the guest without SEV, SNP or TDX");
                break;
            case "cryptodev-vhost-user":
                notes.Fail("vhost-user", id, "the vhost-user process serves one VMM at a time", "use cryptodev-backend-builtin");
                break;
            case "vfio-user-server" or "x-vfio-user-server":
                notes.Fail("vfio-user", id, "its clients are connected to one process", "remove it");
                break;
            case "input-linux":
                notes.Warn("input-linux", id, "the input device is grabbed by one process; the new VMM gets it when it is toggled again", "");
                break;
            default:
                break;
        }
    }

    public static void Block(TranslationNotes notes, OptionString block)
    {
        string id = block["node-name"] ?? block["driver"] ?? "blockdev";
        switch (block["driver"])
        {
            case "vvfat":
                Vvfat(notes, id);
                break;
            case "nvme":
                notes.Fail("vfio", id, "the NVMe disk is driven from user space by one process", "use the kernel's driver (/dev/nvme0n1)");
                break;
            default:
                break;
        }
        if (block["file.driver"].Is("vvfat"))
            Vvfat(notes, id);
    }

    private static void Drive(TranslationNotes notes, OptionString drive, SpecOption option)
    {
        string id = drive["id"] ?? option.ToString();
        if (drive.GetSwitch("snapshot") == true)
            Snapshot(notes, id);
        if (drive["file"] is { } file)
            Image(notes, file, id);
        if (drive["driver"].Is("vvfat") || drive["format"].Is("vvfat"))
            Vvfat(notes, id);
    }

    private static void Image(TranslationNotes notes, string file, string id)
    {
        if (file.Begins("fat:"))
            Vvfat(notes, id);
        else if (file.Begins("nvme://"))
            notes.Fail("vfio", id, "the NVMe disk is driven from user space by one process", "use the kernel's driver (/dev/nvme0n1)");
    }

    public static void Snapshot(TranslationNotes notes, string id) =>
        notes.Fail("snapshot", id, "what the guest writes is in a temporary file that only this process has", "remove -snapshot and snapshot=on; use an overlay file of your own");

    private static void Vvfat(TranslationNotes notes, string id) =>
        notes.Fail("vvfat", id, "QEMU's virtual FAT disk cannot be handed over", "make a disk image of the directory");

    private static void Accelerator(TranslationNotes notes, string? accelerators)
    {
        if (accelerators is not null && accelerators.Split(':').Any(static name => name.Is("xen")))
            notes.Fail("accelerator", "xen", "guests under Xen are not handled", "use accel=kvm or accel=tcg");
    }

    private static string FileSystem(SpecOption option)
    {
        OptionString value = OptionString.Parse(option, "fsdriver");
        return value["id"] ?? value["mount_tag"] ?? option.ToString();
    }
}
