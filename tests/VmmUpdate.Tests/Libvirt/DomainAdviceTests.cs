using System.Xml.Linq;
using CprSharp.VmmUpdate.Libvirt;
using CprSharp.VmmUpdate.Reporting;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Libvirt;

public sealed class DomainAdviceTests
{
    private const string Wrapper = "/usr/bin/cprsharp-qemu-system-x86_64";

    private static readonly AdviceFacts Host = new(Wrapper, HasVhost: true, Confines: null);

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
    [InlineData("", true)]
    [InlineData("<seclabel type='dynamic' model='apparmor'/>", true)]
    [InlineData("<seclabel type='none' model='dac'/>", true)]
    [InlineData("<seclabel type='none' model='apparmor'/>", false)]
    [InlineData("<seclabel type='none'/>", false)]
    public void A_confined_domain_is_warned_of(string label, bool warned)
    {
        var domain = Domain("");
        if (label.Length > 0)
            domain.Add(XElement.Parse(label));
        Assert.Equal(warned, DomainAdvice.Of(domain, Host with { Confines = "apparmor" }).Findings.Any(f => f.Id == "confinement"));
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
