using System.Text.Json;
using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

public sealed class LaunchFirstTests
{
    [Fact]
    public void A_blog_style_line_gets_held_ram_a_pinned_machine_and_a_served_qmp_socket()
    {
        VmSpec spec = Translate("-M q35 -m 2G -smp 2 -nographic -qmp unix:/run/q.sock,server,nowait -serial unix:/run/s.sock,server=on,wait=off disk.img");
        Assert.Equal("pc-q35-11.1", spec.MachineType);
        Assert.Equal(
            "-machine pc-q35-11.1,aux-ram-share=on,suppress-vmdesc=on,memory-backend=pc.ram " +
            "-object memory-backend-file,id=pc.ram,size=2147483648,mem-path=/proc/self/fd/200,share=on,x-use-canonical-path-for-ramblock-id=off " +
            "-m 2G -smp 2 -nographic -chardev socket,id=serial0,server=on,wait=off,fd=201 -serial chardev:serial0 -hda disk.img",
            Line(spec.RenderFirstStart()));
        Assert.Equal([new ClientSocket("compat_monitor0", new UnixAddress("/run/q.sock"))], spec.ClientSockets);
        Assert.Equal(
            [new GuestRamDescriptor(200, "pc.ram", 2L << 30), new ListenerDescriptor(201, "serial0", new UnixAddress("/run/s.sock"))],
            spec.Descriptors);
        VmSpec? read = JsonSerializer.Deserialize(JsonSerializer.Serialize(spec, VmSpecJson.Default.VmSpec), VmSpecJson.Default.VmSpec);
        Assert.Equal(JsonSerializer.Serialize(spec, VmSpecJson.Default.VmSpec), JsonSerializer.Serialize(read!, VmSpecJson.Default.VmSpec));
    }
}
