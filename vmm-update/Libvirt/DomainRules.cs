using System.Xml.Linq;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary>The rules of <see cref="DomainAdvice"/>: each looks at one thing in the XML, and changes it where the guest cannot tell.</summary>
/// <remarks>What only the running VM can tell (its devices' state, its rings) is for <c>cprsharp check</c>.</remarks>
internal sealed class DomainRules(XElement domain, AdviceFacts facts)
{
    private const string Wrapper = "cprsharp-qemu-system-";

    public XElement Domain { get; } = domain;

    public List<Finding> Findings { get; } = [];

    public List<string> Changes { get; } = [];

    private IEnumerable<XElement> Devices => Domain.Elements("devices").Elements();

    public void Apply()
    {
        Type();
        Emulator();
        Machine();
        Memory();
        Confinement();
        foreach (var device in Devices.ToList())
            Device(device);
    }

    private void Type()
    {
        var type = Value(Domain, "type");
        if (type is not ("kvm" or "qemu"))
            Fail("domain-type", type, $"domain type '{type}' does not run on QEMU", "only domains of type kvm and qemu are handled");
        if (Domain.Element("launchSecurity") is { } guard)
            Fail("confidential-guest", Value(guard, "type"), "the guest's memory is encrypted or private to its QEMU", "remove launchSecurity");
    }

    private void Emulator()
    {
        var emulator = Devices.FirstOrDefault(d => d.Name == "emulator");
        var path = emulator?.Value.Trim() ?? "";
        if (Path.GetFileName(path).StartsWith(Wrapper, StringComparison.Ordinal))
        {
            Pass("emulator", path, "the domain starts under a supervisor");
            return;
        }

        Fail("emulator", path.Length > 0 ? path : "(libvirt's default)", "the domain runs on QEMU itself: libvirt takes QEMU's end for the domain's, and holds its only monitor", $"use {facts.Emulator} as emulator, and start the domain anew");
        if (emulator is not null)
            emulator.Value = facts.Emulator;
        else if (Domain.Element("devices") is { } devices)
            devices.AddFirst(new XElement("emulator", facts.Emulator));
        else
            Domain.Add(new XElement("devices", new XElement("emulator", facts.Emulator)));
        Changes.Add($"The emulator is {facts.Emulator}.");
    }

    private void Machine()
    {
        var type = Domain.Element("os")?.Element("type");
        var machine = Value(type, "machine");
        if (machine.Any(char.IsAsciiDigit) && machine.Contains('-', StringComparison.Ordinal))
            Pass("machine-type", machine, "pinned");
        else
            Warn("machine-type", machine.Length > 0 ? machine : "(libvirt's default)", "an alias, which means another machine in every QEMU; libvirt pins it when it defines the domain, to the newest that its QEMU has", "name the machine type of the oldest QEMU that the guest is to go back to, such as pc-q35-10.0");
    }

    private void Memory()
    {
        var backing = Domain.Element("memoryBacking");
        var source = Value(backing?.Element("source"), "type");
        var access = Value(backing?.Element("access"), "mode");
        if (source == "file" && access != "shared" && Domain.Element("cpu")?.Element("numa") is not null)
            Warn("memory-backing", "memoryBacking", "files in libvirt's memory directory, private to one QEMU: they become memory that the supervisor holds", "use <source type='memfd'/> with <access mode='shared'/>");
        else
            Pass("memory-backing", source.Length > 0 ? $"{source}{(access.Length > 0 ? $", {access}" : "")}" : "memory", "the supervisor puts it on shared memory that it holds (memfd), with QEMU's auxiliary RAM shared, too");
        if (backing?.Element("locked") is not null)
            Warn("memory-locked", "memoryBacking", "both QEMUs lock the guest's memory while an update runs", "allow twice the guest's memory to be locked: <hard_limit> in <memtune>");
    }

    /// <summary>The supervisor runs under the domain's label; so do its QEMUs, which only an update's own check can see (finding <c>security-label</c>).</summary>
    private void Confinement()
    {
        if (facts.Confinement is not { } module)
            return;
        var labels = Domain.Elements("seclabel").Where(l => Value(l, "model") is "" || Value(l, "model") == module.Model).ToArray();
        var unconfined = $"take the domain out: <seclabel type='none' model='{module.Model}'/>";
        if (labels.Any(l => Value(l, "type") == "none"))
            Pass("confinement", module.Model, "the domain is not confined");
        else if (!module.Enforces)
            Warn("confinement", module.Model, "what the supervisor needs beyond QEMU is logged as a violation, and would be refused if the module enforced", unconfined);
        else if (module.Model == "selinux")
            Fail("confinement", module.Model, "libvirt's type for its QEMUs (svirt_t) does not allow what the supervisor needs: to write in its state directory, to trace its QEMUs; no policy for it comes with cprsharp", unconfined);
        else if (!module.AllowsSupervisor)
            Fail("confinement", module.Model, "libvirt's profile for the domain allows what QEMU needs, and the supervisor needs more: to be executed, to write in its state directory, to trace its QEMUs", $"install {LibvirtHost.AppArmorRules}, which libvirt's abstraction includes; or {unconfined}");
        else if (labels.FirstOrDefault(l => Value(l, "type") == "static") is { } own)
            Warn("confinement", own.Element("label")?.Value.Trim() ?? module.Model, "the domain has a profile of your own, which has to allow what the supervisor needs", $"include <abstractions/libvirt-qemu> in it, or the rules of {LibvirtHost.AppArmorRules}");
        else
            Warn("confinement", module.Model, "supervisor and QEMUs run under the domain's own profile, which has rules for them; an update under it was seen with Linux 7.3 and libvirt 11.3 alone", $"rehearse it with a domain that may fail, or {unconfined}");
    }

    private void Device(XElement device)
    {
        switch (device.Name.LocalName)
        {
            case "interface":
                Interface(device);
                break;
            case "graphics":
                Graphics(device);
                break;
            case "tpm":
                Fail("tpm", Value(device, "model"), "the TPM or its emulator serves one QEMU at a time", "remove it");
                break;
            case "hostdev":
                Hostdev(device);
                break;
            case "redirdev":
                Fail("display-spice", "redirdev", "USB redirection belongs to one process", "remove it");
                break;
            case "channel" or "serial" or "parallel" or "console" when Value(device, "type") is "spicevmc" or "spiceport":
                Fail("display-spice", $"{device.Name.LocalName} {Value(device.Element("target"), "name")}", "SPICE connections belong to one process", "remove it, or use a unix socket");
                break;
            case "channel" or "serial" or "parallel" or "console":
                Pass("console", $"{device.Name.LocalName} {Value(device, "type")}", Value(device, "type") is "pty" or "unix" or "tcp" ? "served by the supervisor: its client stays connected" : "started again in the new QEMU");
                break;
            case "disk" when Value(device, "type") is "vhostuser" or "vhostvdpa":
                Fail("vhost-user", Value(device.Element("target"), "dev"), "the process behind the disk serves one QEMU at a time", "let QEMU itself open the disk");
                break;
            case "disk" when Value(device, "type") == "nvme":
                Fail("nvme", Value(device.Element("target"), "dev"), "QEMU's own NVMe driver holds the controller", "use the host's driver: disk type='block'");
                break;
            case "disk":
                Pass("disk", Value(device.Element("target"), "dev"), $"opened by the new QEMU, too ({Value(device, "type")})");
                break;
            case "filesystem" when Value(device.Element("driver"), "type") == "virtiofs":
                Fail("vhost-user", Value(device.Element("target"), "dir"), "virtiofsd serves one QEMU at a time", "remove it, or share it over the network");
                break;
            case "filesystem":
                Warn("9p", Value(device.Element("target"), "dir"), "while the guest has it mounted, QEMU refuses to save its state", "unmount it in the guest before an update");
                break;
            case "vsock":
                Fail("vhost", "vsock", "the kernel's vhost worker is bound to one process", "remove it");
                break;
            case "shmem" or "smartcard":
                Fail(device.Name.LocalName, Value(device, "name"), "it belongs to one process", "remove it");
                break;
            default:
                break;
        }
    }

    private void Interface(XElement device)
    {
        var name = Value(device.Element("target"), "dev") is { Length: > 0 } target ? target : Value(device.Element("mac"), "address") is { Length: > 0 } mac ? mac : "interface";
        switch (Value(device, "type"))
        {
            case "user":
                Warn("user-network", name, "the guest's connections through QEMU's user network are cut by an update", "use a bridge");
                break;
            case "vhostuser" or "vdpa":
                Fail("vhost-user", name, "the process or device behind it serves one QEMU at a time", "use a bridge");
                break;
            case "hostdev":
                Fail("hostdev", name, "a network device that libvirt passes through is attached without iommufd", "use a bridge");
                break;
            case "server" or "client" or "mcast" or "udp":
                Fail("network-port", name, "its address cannot be bound twice", "use a bridge");
                break;
            default:
                Tap(device, name);
                break;
        }
    }

    private void Tap(XElement device, string name)
    {
        var driver = device.Element("driver");
        var virtio = Value(device.Element("model"), "type") is "virtio" or "virtio-transitional" or "virtio-non-transitional";
        if (virtio && facts.HasVhost && Value(driver, "name") != "qemu")
        {
            Fail("vhost", name, "libvirt uses the kernel's vhost worker, which belongs to one process", "let QEMU move the frames: <driver name='qemu'/>");
            if (driver is null)
                device.Add(driver = new XElement("driver"));
            driver.SetAttributeValue("name", "qemu");
            Changes.Add($"QEMU itself moves the frames of {name}, not the kernel's vhost.");
        }
        else
        {
            Pass("tap", name, "held by the supervisor: frames wait in it during the pause");
        }
    }

    private void Graphics(XElement device)
    {
        switch (Value(device, "type"))
        {
            case "vnc":
                Warn("vnc-clients", "vnc", "viewers are cut off by an update and connect again at once: the listening socket stays", "");
                break;
            case "spice":
                Fail("display-spice", "spice", "SPICE connections belong to one process", "use VNC: <graphics type='vnc'/>");
                break;
            case "dbus":
                Fail("display-dbus", "dbus", "a D-Bus display belongs to one process", "use VNC: <graphics type='vnc'/>");
                break;
            default:
                Warn("display-window", Value(device, "type"), "every QEMU opens a display of its own", "use VNC: <graphics type='vnc'/>");
                break;
        }
    }

    /// <summary>
    /// libvirt 11.3 knows VFIO as containers alone: its <c>driver</c> has no <c>iommufd</c>, and where one is written it is dropped from the XML
    /// without a word (domaincommon.rng, hostdevsubsyspci; qemu_command.c names the device by <c>host</c>, never by a descriptor).
    /// </summary>
    private void Hostdev(XElement device)
    {
        var kind = Value(device, "type") is { Length: > 0 } type ? type : Value(device, "mode");
        var name = Address(device) is { Length: > 0 } address ? $"{kind} {address}" : kind;
        if (kind == "usb")
            Warn("usb-host", name, "the guest sees the host's USB device unplugged and plugged in again", "detach it before an update");
        else if (kind == "pci" && Value(device.Element("driver"), "iommufd") == "yes")
            Warn("hostdev", name, "attached through iommufd, whose descriptors libvirt passes: this has not been tried", "see `cprsharp check`");
        else if (kind is "pci" or "mdev")
            Fail("hostdev", name, "libvirt attaches it through a legacy VFIO container, which belongs to the process that opened it: it lacks iommufd, and libvirt's <iommufd> came with 12.2", "remove it, or run the guest with `cprsharp run` and -device vfio-pci,…,iommufd=…");
        else
            Fail("hostdev", name, "the host's device serves one process at a time", "remove it");
    }

    private static string Address(XElement device) =>
        device.Element("source")?.Element("address") is not { } address ? ""
        : Value(address, "uuid") is { Length: > 0 } uuid ? uuid
        : string.Join(':', new[] { "domain", "bus", "slot" }.Select(a => Value(address, a).Replace("0x", "", StringComparison.Ordinal)).Where(a => a.Length > 0))
            is { Length: > 0 } place ? $"{place}.{Value(address, "function").Replace("0x", "", StringComparison.Ordinal)}" : "";

    private void Pass(string id, string subject, string evidence) => Findings.Add(Finding.Pass(id, subject, evidence));

    private void Warn(string id, string subject, string evidence, string fix) => Findings.Add(Finding.Warn(id, subject, evidence, fix));

    private void Fail(string id, string subject, string evidence, string fix) => Findings.Add(Finding.Fail(id, subject, evidence, fix));

    private static string Value(XElement? element, string attribute) => (string?)element?.Attribute(attribute) ?? "";
}
