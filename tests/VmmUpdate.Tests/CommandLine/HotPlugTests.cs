using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

public sealed class HotPlugTests
{
    private const string Base = "-M q35 -nodefaults -display none -drive if=none,id=d0,file=a.iso,media=cdrom -device ide-cd,drive=d0,id=cd0 " +
        "-device virtio-net-pci,netdev=n0,id=nic0 -netdev user,id=n0,hostfwd=tcp::1-:1 -blockdev file,filename=/x,node-name=x -device scsi-cd,id=cd1,drive=x -cdrom b.iso";

    private static readonly Version Old = new(7, 2, 22);
    private static readonly Version New = new(11, 1, 3);

    private static (string Added, HotPlugResult Result) Apply(string command, string arguments, Version? version = null, Dictionary<string, string>? pinned = null)
    {
        VmSpec spec = Translate(Base);
        HotPlugResult result = HotPlug.Apply(spec, command, (JsonObject)JsonNode.Parse(arguments)!, version ?? New, pinned);
        return (Line(result.Spec.RenderTarget().Except(spec.RenderTarget())), result);
    }

    [Theory]
    [InlineData("device_add", """{"driver":"virtio-rng-pci","id":"r","addr":5}""", true, """{"driver":"virtio-rng-pci","id":"r","addr":5}""")]
    [InlineData("device_add", """{"driver":"virtio-rng-pci","id":"r","ats":true,"addr":5}""", false, "virtio-rng-pci,id=r,ats=on,addr=5")]
    [InlineData("netdev_add", """{"type":"user","id":"n1","hostfwd":[{"str":"tcp::2-:2"}]}""", true, """{"type":"user","id":"n1"}""")]
    [InlineData("blockdev-add", """{"driver":"null-co","node-name":"z","size":512}""", true, """{"driver":"null-co","node-name":"z","size":512}""")]
    [InlineData("object-add", """{"qom-type":"iothread","id":"io"}""", true, """{"qom-type":"iothread","id":"io"}""")]
    [InlineData("chardev-add", """{"id":"c","backend":{"type":"file","data":{"out":"/a,b"}}}""", true, "-chardev file,id=c,path=/a,,b,append=on")]
    [InlineData("chardev-add", """{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"/s"}},"server":false,"reconnect":3}}}""", true, "-chardev socket,id=c,path=/s,reconnect=3,server=off")]
    [InlineData("chardev-add", """{"id":"c","backend":{"type":"null","data":{}}}""", true, "-chardev null,id=c")]
    [InlineData("blockdev-change-medium", """{"id":"cd0","filename":"/new.iso","format":"raw"}""", true, "if=none,id=d0,file=/new.iso,media=cdrom,format=raw")]
    [InlineData("blockdev-change-medium", """{"device":"ide1-cd0","filename":"/new.iso"}""", true, "index=2,media=cdrom,file=/new.iso")]
    [InlineData("eject", """{"id":"cd0"}""", true, "if=none,id=d0,media=cdrom")]
    [InlineData("blockdev-remove-medium", """{"id":"cd1"}""", true, "scsi-cd,id=cd1")]
    [InlineData("blockdev-insert-medium", """{"id":"cd1","node-name":"y"}""", true, "scsi-cd,id=cd1,drive=y")]
    public void A_change_is_on_the_next_command_line(string command, string arguments, bool recent, string added) =>
        Assert.Equal(added, Apply(command, arguments, recent ? New : Old).Added);

    [Fact]
    public void A_device_stays_where_it_went()
    {
        (string added, HotPlugResult result) = Apply("device_add", """{"driver":"virtio-rng-pci","id":"r","bus":"rp0"}""", pinned: new() { ["bus"] = "rp0", ["addr"] = "00.0" });
        Assert.Equal("""{"driver":"virtio-rng-pci","id":"r","bus":"rp0","addr":"00.0"}""", added);
        Assert.Empty(result.Findings);
    }

    [Theory]
    [InlineData("device_del", """{"id":"nic0"}""", "nic0")]
    [InlineData("netdev_del", """{"id":"n0"}""", "user")]
    [InlineData("blockdev-del", """{"node-name":"x"}""", "node-name=x")]
    public void What_was_taken_away_is_gone(string command, string arguments, string gone)
    {
        HotPlugResult result = Apply(command, arguments).Result;
        Assert.DoesNotContain(gone, Line(result.Spec.RenderFirstStart()), StringComparison.Ordinal);
        Assert.Empty(result.Findings);
    }

    [Fact]
    public void With_a_backend_go_its_findings_and_its_ports()
    {
        VmSpec spec = Apply("netdev_del", """{"id":"n0"}""").Result.Spec;
        Assert.Empty(spec.AfterCommit);
        Assert.DoesNotContain(spec.Findings, static finding => finding.Object == "n0");
    }

    [Fact]
    public void With_a_device_its_backend_of_the_same_name_keeps_its_findings()
    {
        VmSpec spec = Translate("-M q35 -nodefaults -display none -netdev vde,id=net0 -device vfio-pci,host=1:0.0,id=net0");
        HotPlugResult result = HotPlug.Apply(spec, "device_del", new JsonObject { ["id"] = "net0" }, New);
        Assert.NotNull(result.Spec.Finding("network-reconnect"));
        Assert.Null(result.Spec.Finding("vfio"));
    }

    [Fact]
    public void Adding_and_removing_leaves_the_vm_as_it_was()
    {
        VmSpec before = Translate(Base);
        VmSpec after = before;
        foreach ((string command, string arguments) in new[]
        {
            ("netdev_add", """{"type":"user","id":"n9","hostfwd":[{"str":"tcp::9-:9"}]}"""),
            ("device_add", """{"driver":"virtio-net-pci","netdev":"n9","id":"x9"}"""),
            ("device_del", """{"id":"x9"}"""),
            ("netdev_del", """{"id":"n9"}"""),
            ("query-status", "{}"),
        })
        {
            after = HotPlug.Apply(after, command, (JsonObject)JsonNode.Parse(arguments)!, New).Spec;
        }
        Assert.Equal(before.RenderTarget(), after.RenderTarget());
        Assert.Equal(before.AfterCommit, after.AfterCommit);
        Assert.Equal(before.Findings, after.Findings);
    }

    [Theory]
    [InlineData("device_add", """{"driver":"virtio-rng-pci"}""", "hot-plug-without-id", "virtio-rng-pci")]
    [InlineData("device_del", """{"id":"nope"}""", "hot-unplug-unknown", "nope")]
    [InlineData("netdev_add", """{"type":"tap","id":"t","fd":"net0"}""", "descriptor-not-held", "t")]
    [InlineData("object-add", """{"qom-type":"memory-backend-ram","id":"m","size":1}""", "memory-not-held", "m")]
    [InlineData("chardev-add", """{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"/s"}}}}}""", "chardev-not-held", "c")]
    [InlineData("chardev-add", """{"id":"c","backend":{"type":"hub","data":{}}}""", "chardev-not-expressible", "c")]
    [InlineData("blockdev-add", """{"driver":"file","node-name":"f","filename":"/dev/fdset/7"}""", "descriptor-not-held", "f")]
    [InlineData("blockdev-change-medium", """{"id":"nowhere","filename":"/f"}""", "medium", "nowhere")]
    [InlineData("blockdev-snapshot", """{"node":"x","overlay":"y"}""", "block-graph", "blockdev-snapshot")]
    [InlineData("expire_password", """{"protocol":"vnc","time":"now"}""", "setting-lost", "expire_password")]
    public void What_a_command_line_cannot_say_is_a_finding(string command, string arguments, string id, string subject)
    {
        HotPlugResult result = Apply(command, arguments).Result;
        SpecFinding finding = Assert.Single(result.Findings, found => found.Id == id);
        Assert.Equal(subject, finding.Object);
        Assert.Contains(finding, result.Spec.Findings);
    }

    [Fact]
    public void What_the_same_command_sets_in_the_next_VMM_is_kept()
    {
        VmSpec spec = Apply("block_set_io_throttle", """{"id":"cd0","bps":1,"iops":2}""").Result.Spec;
        spec = HotPlug.Apply(spec, "block_set_io_throttle", (JsonObject)JsonNode.Parse("""{"id":"cd0","bps":3}""")!, New).Spec;
        spec = HotPlug.Apply(spec, "qom-set", (JsonObject)JsonNode.Parse("""{"path":"/machine/peripheral/b0","property":"guest-stats-polling-interval","value":5}""")!, New).Spec;
        spec = HotPlug.Apply(spec, "qom-set", (JsonObject)JsonNode.Parse("""{"path":"/machine/peripheral/b0","property":"other","value":5}""")!, New).Spec;
        Assert.Equal(["block_set_io_throttle cd0", "qom-set /machine/peripheral/b0"], spec.Settings.Select(static s => $"{s.Command} {s.Subject}"));
        Assert.Equal("""{"id":"cd0","bps":3,"iops":2}""", spec.Settings[0].Arguments);
        Assert.Empty(spec.Findings.Where(static f => f.Id == "setting-lost"));

        spec = HotPlug.Apply(spec, "device_del", (JsonObject)JsonNode.Parse("""{"id":"b0"}""")!, New).Spec;
        Assert.Equal(["cd0"], spec.Settings.Select(static s => s.Subject));
    }
}
