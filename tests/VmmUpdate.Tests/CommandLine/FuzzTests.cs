using System.Text;
using CprSharp.Tests;
using CprSharp.VmmUpdate.CommandLine;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

/// <summary>Command lines made from good ones.</summary>
public sealed class FuzzTests
{
    private static readonly string[] Lines =
    [
        "-machine q35,accel=kvm,usb=off -m size=1G,slots=4,maxmem=8G -smp 4 -nodefaults -display none -S -daemonize -pidfile /p",
        "-M pc -m 128 -hda a.img -cdrom b.iso -nographic -vnc :1,to=9 -monitor telnet:127.0.0.1:4444,server,nowait -serial pty -serial mon:stdio",
        "-chardev socket,id=c,path=/c,server=on,wait=off -mon chardev=c,mode=control -qmp tcp:localhost:4444,server=on,wait=off -qmp-pretty unix:/q,server",
        "-netdev tap,id=t,ifname=t0,script=no,queues=2,vhost=on -device virtio-net-pci,netdev=t,mq=on -netdev bridge,br=br0,id=b -nic user,hostfwd=tcp::2222-:22",
        "-object memory-backend-file,id=m0,size=64M,mem-path=/dev/hugepages,share=off,prealloc=on -numa node,nodeid=0,memdev=m0 -mem-path /x -mem-prealloc",
        "-object {\"qom-type\":\"memory-backend-memfd\",\"id\":\"m\",\"size\":1073741824,\"share\":false} -machine {\"type\":\"q35\"} -blockdev {\"driver\":\"file\",\"filename\":\"/d\",\"node-name\":\"n\"}",
        "-tpmdev emulator,id=t,chardev=c -device vhost-user-fs-pci,chardev=c,tag=t -device vfio-pci,host=01:00.0 -add-fd set=1,fd=9 -incoming defer -sandbox on,spawn=deny",
        "-drive file=/d,,1.img,if=virtio,snapshot=on,format=raw -spice port=5900,disable-ticketing=on -audiodev none,id=a -fw_cfg name=opt/x,string=a,,b -readconfig /f -set device.x.y=z",
    ];

    private static readonly byte[][] Corpus = [.. Lines.Select(Encoding.UTF8.GetBytes)];

    [Fact]
    public void A_command_line_is_translated_or_refused_with_a_reason() => Fuzz.Run(5_000, random =>
    {
        var words = TestFacts.Words(Encoding.UTF8.GetString(Fuzz.Mutate(random, Corpus)));
        try
        {
            var translation = Launch.Translate(QemuCommandLine.Parse(words), random.Next(2) == 0 ? TestFacts.Qemu11 : TestFacts.Qemu7, null);
            _ = translation.Spec?.RenderFirstStart().Count;
            _ = translation.Spec?.RenderTarget(TestFacts.Qemu11).Count;
        }
        catch (CommandLineException e)
        {
            Assert.NotEmpty(e.Message);
        }
    });

    [Theory]
    [InlineData("vhost-user", "-object memory-backend-file,id=mem,size=4G,mem-path=/dev/shm,share=on -numa node,memdev=mem -chardev socket,id=char0,path=/tmp/vhostqemu -device vhost-user-fs-pci,queue-size=1024,chardev=char0,tag=myfs")]
    [InlineData("vhost-user", "-chardev socket,id=char1,path=/run/vhost-user1,reconnect=1 -netdev type=vhost-user,id=net1,chardev=char1,queues=2 -device virtio-net-pci,netdev=net1,mq=on")]
    [InlineData("vhost-user", "-chardev socket,id=spdk,path=/var/tmp/vhost.1 -device vhost-user-blk-pci,chardev=spdk,num-queues=2")]
    [InlineData("vhost-user", "-device {\"driver\":\"vhost-user-fs-pci\",\"id\":\"fs0\",\"chardev\":\"chr-vu-fs0\",\"tag\":\"mount_tag\",\"bus\":\"pci.1\"}")]
    [InlineData("tpm", "-chardev socket,id=chrtpm,path=/tmp/mytpm1/swtpm-sock -tpmdev emulator,id=tpm0,chardev=chrtpm -device tpm-tis,tpmdev=tpm0")]
    [InlineData("tpm", "-tpmdev passthrough,id=tpm0,path=/dev/tpm0 -device tpm-crb,tpmdev=tpm0")]
    public void A_VMM_with_a_companion_that_serves_one_process_is_not_updated(string id, string arguments)
    {
        var finding = TestFacts.Translate($"-M pc-q35-10.0 -m 4G -display none {arguments}").Finding(id);

        Assert.Equal(FindingSeverity.Fail, finding?.Severity);
        Assert.NotEmpty(finding!.Fix);
    }
}
