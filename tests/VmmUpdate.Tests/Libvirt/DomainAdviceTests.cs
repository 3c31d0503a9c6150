using System.Xml.Linq;
using CprSharp.VmmUpdate.Libvirt;
using CprSharp.VmmUpdate.Reporting;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Libvirt;

public sealed class DomainAdviceTests
{
    private const string Wrapper = "/usr/bin/cprsharp-qemu-system-x86_64";

    private static readonly AdviceFacts Host = new(Wrapper, HasVhost: true, Confinement: null);

    [Fact]
    public void A_domain_that_lacks_nothing_is_ready_and_not_changed()
    {
        var domain = Domain("<disk type='file'><target dev='vda'/></disk><console type='pty'/>");
        var advice = DomainAdvice.Of(domain, Host);
        Assert.Equal(Verdict.Ready, advice.Verdict);
        Assert.Empty(advice.Changes);
        Assert.Equal(domain.ToString(), advice.Changed.ToString());
    }

    [Theory]
    [InlineData("<graphics type='spice'/>", "display-spice")]
    [InlineData("<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>", "display-spice")]
    [InlineData("<redirdev bus='usb' type='spicevmc'/>", "display-spice")]
    [InlineData("<tpm model='tpm-crb'/>", "tpm")]
    [InlineData("<hostdev mode='subsystem' type='pci'/>", "hostdev")]
    [InlineData("<interface type='hostdev'/>", "hostdev")]
    [InlineData("<interface type='vhostuser'/>", "vhost-user")]
    [InlineData("<interface type='network'><model type='virtio'/></interface>", "vhost")]
    [InlineData("<interface type='server'/>", "network-port")]
    [InlineData("<filesystem type='mount'><driver type='virtiofs'/><target dir='d'/></filesystem>", "vhost-user")]
    [InlineData("<vsock model='virtio'/>", "vhost")]
    [InlineData("<disk type='nvme'><target dev='vda'/></disk>", "nvme")]
    [InlineData("<shmem name='s'/>", "shmem")]
    public void What_serves_one_QEMU_at_a_time_blocks(string device, string id)
    {
        var advice = DomainAdvice.Of(Domain(device), Host);
        Assert.Equal(Verdict.Blocked, advice.Verdict);
        var finding = Assert.Single(advice.Findings, f => f.Severity == Severity.Fail);
        Assert.Equal(id, finding.Id);
        Assert.NotEmpty(finding.Fix);
    }

    [Fact]
    public void What_the_guest_cannot_tell_is_changed_and_then_blocks_no_more()
    {
        var domain = Domain("<interface type='bridge'><target dev='vnet0'/><model type='virtio'/></interface>", emulator: "/usr/bin/kvm");
        var advice = DomainAdvice.Of(domain, Host);
        Assert.Equal(["emulator", "vhost"], advice.Findings.Where(f => f.Severity == Severity.Fail).Select(f => f.Id));
        Assert.Equal(2, advice.Changes.Length);
        Assert.Equal("/usr/bin/kvm", domain.Element("devices")!.Element("emulator")!.Value);
        Assert.Equal(Verdict.Ready, DomainAdvice.Of(advice.Changed, Host).Verdict);
        Assert.Equal("qemu", (string?)advice.Changed.Element("devices")!.Element("interface")!.Element("driver")!.Attribute("name"));
    }

    [Fact]
    public void A_domain_without_emulator_or_devices_gets_one() =>
        Assert.Equal(Wrapper, DomainAdvice.Of(XElement.Parse("<domain type='kvm'><name>d</name></domain>"), Host).Changed.Element("devices")!.Element("emulator")!.Value);

    [Theory]
    [InlineData("apparmor", true, true, "", Severity.Warn)]
    [InlineData("apparmor", true, true, "<seclabel type='dynamic' model='apparmor'/>", Severity.Warn)]
    [InlineData("apparmor", true, true, "<seclabel type='static' model='apparmor'><label>mine</label></seclabel>", Severity.Warn)]
    [InlineData("apparmor", true, false, "", Severity.Fail)]
    [InlineData("apparmor", true, false, "<seclabel type='none' model='dac'/>", Severity.Fail)]
    [InlineData("apparmor", true, false, "<seclabel type='none' model='apparmor'/>", Severity.Pass)]
    [InlineData("apparmor", true, false, "<seclabel type='none'/>", Severity.Pass)]
    [InlineData("apparmor", false, false, "", Severity.Warn)]
    [InlineData("selinux", true, false, "", Severity.Fail)]
    [InlineData("selinux", true, false, "<seclabel type='dynamic' model='selinux' relabel='yes'/>", Severity.Fail)]
    [InlineData("selinux", true, false, "<seclabel type='none' model='selinux'/>", Severity.Pass)]
    [InlineData("selinux", false, false, "", Severity.Warn)]
    public void A_confined_domain_is_let_through_where_its_label_allows_for_a_supervisor(string model, bool enforces, bool allows, string label, Severity severity)
    {
        var domain = Domain("");
        if (label.Length > 0)
            domain.Add(XElement.Parse(label));
        var finding = Assert.Single(DomainAdvice.Of(domain, Host with { Confinement = new Confinement(model, enforces, allows) }).Findings, f => f.Id == "confinement");
        Assert.Equal(severity, finding.Severity);
        Assert.Equal(severity == Severity.Pass, string.IsNullOrEmpty(finding.Fix));
    }

    [Fact]
    public void What_confines_is_read_from_the_kernel()
    {
        var root = Directory.CreateTempSubdirectory("cprsharp-confinement-").FullName;
        try
        {
            Assert.Null(LibvirtHost.ConfinementAt(root));
            Write("sys/fs/selinux/class/file/index", "1");
            Write("sys/fs/selinux/enforce", "0");
            Assert.Equal(new Confinement("selinux", Enforces: false, AllowsSupervisor: false), LibvirtHost.ConfinementAt(root));
            Write("sys/fs/selinux/enforce", "1");
            Assert.Equal(new Confinement("selinux", Enforces: true, AllowsSupervisor: false), LibvirtHost.ConfinementAt(root));
            Write("sys/module/apparmor/parameters/enabled", "Y\n");
            Assert.Equal(new Confinement("apparmor", Enforces: true, AllowsSupervisor: false), LibvirtHost.ConfinementAt(root));
            Write("sys/module/apparmor/parameters/mode", "complain\n");
            Write("etc/apparmor.d/abstractions/libvirt-qemu.d/cprsharp", "");
            Assert.Equal(new Confinement("apparmor", Enforces: false, AllowsSupervisor: true), LibvirtHost.ConfinementAt(root));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }

        void Write(string path, string text)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(root, path))!);
            File.WriteAllText(Path.Combine(root, path), text);
        }
    }

    [Theory]
    [InlineData("<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>", Severity.Fail, "pci 0000:01:00.0", "iommufd")]
    [InlineData("<hostdev mode='subsystem' type='pci'><driver name='vfio'/><source><address domain='0' bus='1' slot='0' function='3'/></source></hostdev>", Severity.Fail, "pci 0:1:0.3", "12.2")]
    [InlineData("<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>", Severity.Fail, "mdev c2177883-f1bb-47f0-914d-32a22e3a8804", "12.2")]
    [InlineData("<hostdev mode='subsystem' type='scsi'/>", Severity.Fail, "scsi", "one process")]
    [InlineData("<hostdev mode='subsystem' type='pci'><driver iommufd='yes'/></hostdev>", Severity.Warn, "pci", "not been tried")]
    [InlineData("<hostdev mode='subsystem' type='usb'/>", Severity.Warn, "usb", "unplugged")]
    public void A_passed_through_device_is_named_with_what_libvirt_lacks(string device, Severity severity, string name, string says)
    {
        var finding = Assert.Single(DomainAdvice.Of(Domain(device), Host).Findings, f => f.Severity == severity);
        Assert.Equal(name, finding.Object);
        Assert.Contains(says, finding.Evidence, StringComparison.Ordinal);
        Assert.NotEmpty(finding.Fix);
    }

    [Theory]
    [InlineData("q35", Severity.Warn)]
    [InlineData("pc", Severity.Warn)]
    [InlineData("pc-q35-10.0", Severity.Pass)]
    public void An_alias_for_a_machine_is_warned_of(string machine, Severity severity) =>
        Assert.Equal(severity, DomainAdvice.Of(Domain("", machine: machine), Host).Findings.Single(f => f.Id == "machine-type").Severity);

    private static XElement Domain(string devices, string emulator = Wrapper, string machine = "pc-q35-10.0") => XElement.Parse(
        $"<domain type='kvm'><name>d</name><os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices><emulator>{emulator}</emulator>{devices}</devices></domain>");
}
