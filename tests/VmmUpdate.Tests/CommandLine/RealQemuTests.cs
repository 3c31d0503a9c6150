using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

/// <summary>The translations against the QEMU of this machine (qemu-system-x86_64 in PATH).</summary>
public sealed class RealQemuTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("cprsharp-cl-").FullName;
    private readonly CancellationTokenSource _deadline = new(TimeSpan.FromSeconds(120));

    private CancellationToken Deadline => _deadline.Token;

    public void Dispose()
    {
        _deadline.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Theory]
    [InlineData("-M q35 -m 256 -smp 2 -nographic")]
    [InlineData("-m 64M -display none -serial mon:unix:{dir}/s,server,nowait -monitor tcp:127.0.0.1:{port},server,nowait -qmp unix:{dir}/q,server,nowait")]
    [InlineData("-M q35,accel=tcg -m size=256M,slots=2,maxmem=1G -nodefaults -vnc unix:{dir}/v -vga std -parallel file:{dir}/p -serial file:{dir}/l -debugcon file:{dir}/d -D {dir}/log")]
    [InlineData("-M q35 -m 128 -display none -vnc 127.0.0.1:0,to=99 -netdev user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:22 -device virtio-net-pci,netdev=n0 -gdb tcp:127.0.0.1:{gdb}")]
    [InlineData("-M pc -m 128 -display none -nic user,model=e1000,hostfwd=tcp:127.0.0.1:{port}-:22")]
    [InlineData("-M pc -m 128 -display none -net nic -net user,hostfwd=tcp:127.0.0.1:{port}-:22")]
    [InlineData("""-M q35 -m 128 -display none -nodefaults -netdev {"type":"user","id":"n0","hostfwd":[{"str":"tcp:127.0.0.1:{port}-:22"}]} -device {"driver":"virtio-net-pci","netdev":"n0"}""")]
    [InlineData("-M q35 -m 256 -nodefaults -display none -object memory-backend-ram,id=a,size=128M,prealloc=on -object memory-backend-memfd,id=b,size=128M -numa node,memdev=a -numa node,memdev=b")]
    [InlineData("""-M q35,memory-backend=m0 -nodefaults -display none -object {"qom-type":"memory-backend-memfd","id":"m0","share":true,"size":134217728}""")]
    [InlineData("-M q35 -m 128M,slots=2,maxmem=1G -nodefaults -display none -object memory-backend-ram,id=d,size=128M -device pc-dimm,memdev=d")]
    [InlineData("-M pc-i440fx-5.0 -m 256 -smp 2 -nodefaults -display none -numa node,mem=128 -numa node,mem=128")]
    [InlineData("-M q35 -nodefaults -display none -m 128 -device virtio-serial -chardev socket,id=c,path={dir}/c,server=on,wait=off -device virtserialport,chardev=c -chardev socket,id=t,host=127.0.0.1,port={port},server,nowait,telnet -serial chardev:t")]
    [InlineData("-M microvm -m 128 -nodefaults -display none -serial null")]
    [InlineData("-no-acpi -no-hpet -m 64 -display none")]
    [InlineData("{image} -m 64 -display none")]
    public async Task First_and_second_vmm_run_side_by_side(string line)
    {
        (VmSpec spec, HeldDescriptors held) = await TranslateAsync(line);
        using (held)
        {
            await using RealQemu second = await StartTargetBesideFirstAsync(spec, held);
            foreach (AfterCommitAction action in spec.AfterCommit)
            {
                JsonNode? answer = await second.ExecuteAsync(action.Command, (JsonObject)JsonNode.Parse(action.Arguments)!, Deadline);
                // The debugger's port is announced in words.
                string said = (answer as JsonValue)?.GetValue<string>().Trim() ?? "";
                Assert.True(said.Length == 0 || said.StartsWith("Waiting for gdb connection", StringComparison.Ordinal), said);
            }
            if (spec.Options.Any(static option => option.Name == "vnc"))
                Assert.True((bool)(await second.ExecuteAsync("query-vnc", [], Deadline))!["enabled"]!);
        }
    }

    [Theory]
    [InlineData("-M q35 -m 128 -nodefaults -display none")]
    [InlineData("-M pc-i440fx-2.9 -m 128 -nodefaults -display none")]
    [InlineData("-M pc-i440fx-2.9 -m 128 -nodefaults -display none -object memory-backend-ram,id=a,size=128M -numa node,memdev=a")]
    [InlineData("-M pc-i440fx-2.9,memory-backend=a -nodefaults -display none -object memory-backend-memfd,id=a,size=128M")]
    [InlineData("-M q35 -m 128 -nodefaults -display none -object memory-backend-file,id=a,size=128M,mem-path={dir},share=on -numa node,memdev=a")]
    public async Task Ram_blocks_keep_their_names_and_sizes(string line)
    {
        (VmSpec spec, HeldDescriptors held) = await TranslateAsync(line);
        using (held)
        {
            await using RealQemu original = await RealQemu.StartAsync(Words(Fill(line)), "", _directory, Deadline);
            await using RealQemu translated = await RealQemu.StartAsync(spec.RenderFirstStart(), held.Redirections, _directory, Deadline);
            Assert.Equal(Blocks(await original.HumanAsync("info ramblock", Deadline)), Blocks(await translated.HumanAsync("info ramblock", Deadline)));
        }
    }

    [Fact]
    public async Task A_hot_plugged_device_is_on_the_next_command_line()
    {
        (VmSpec spec, HeldDescriptors held) = await TranslateAsync("-M q35 -m 128 -nodefaults -display none -device pcie-root-port,id=rp0,chassis=1");
        using (held)
        {
            await using RealQemu first = await RealQemu.StartAsync(spec.RenderFirstStart(), held.Redirections, _directory, Deadline);
            Version version = new(7, 2, 22);
            foreach ((string command, string arguments) in new[]
            {
                ("netdev_add", """{"type":"user","id":"n1","net":"10.9.0.0/24"}"""),
                ("device_add", """{"driver":"virtio-net-pci","netdev":"n1","id":"nic1","bus":"rp0","mq":"off","mac":"52:54:00:00:00:01"}"""),
                ("object-add", """{"qom-type":"iothread","id":"io1"}"""),
                ("chardev-add", """{"id":"c1","backend":{"type":"ringbuf","data":{"size":4096}}}"""),
                ("blockdev-add", """{"driver":"null-co","node-name":"b1","size":1048576}"""),
            })
            {
                await first.ExecuteAsync(command, (JsonObject)JsonNode.Parse(arguments)!, Deadline);
                spec = HotPlug.Apply(spec, command, (JsonObject)JsonNode.Parse(arguments)!, version).Spec;
            }
            await using RealQemu second = await RealQemu.StartAsync([.. spec.RenderTarget(), "-incoming", "defer"], held.Redirections, _directory, Deadline);
            Assert.Equal((await first.HumanAsync("info qtree", Deadline)).Contains("nic1", StringComparison.Ordinal), (await second.HumanAsync("info qtree", Deadline)).Contains("nic1", StringComparison.Ordinal));
            Assert.Contains("n1", await second.HumanAsync("info network", Deadline), StringComparison.Ordinal);
            Assert.Contains("b1", (await second.ExecuteAsync("query-named-block-nodes", [], Deadline))!.ToJsonString(), StringComparison.Ordinal);
            Assert.Contains("c1", (await second.ExecuteAsync("query-chardev", [], Deadline))!.ToJsonString(), StringComparison.Ordinal);
        }
    }

    private async Task<RealQemu> StartTargetBesideFirstAsync(VmSpec spec, HeldDescriptors held)
    {
        await using RealQemu first = await RealQemu.StartAsync(spec.RenderFirstStart(), held.Redirections, _directory, Deadline);
        Assert.Equal("prelaunch", await first.StatusAsync(Deadline));
        RealQemu second = await RealQemu.StartAsync([.. spec.RenderTarget(), "-incoming", "defer"], held.Redirections, _directory, Deadline);
        Assert.Equal("inmigrate", await second.StatusAsync(Deadline));
        return second;
    }

    private async Task<(VmSpec Spec, HeldDescriptors Held)> TranslateAsync(string line)
    {
        QemuCommandLine parsed = QemuCommandLine.Parse(Words(Fill(line)));
        string machine = Launch.ResolveMachine(parsed, new BinaryFacts { Version = new Version(), DefaultMachine = "pc" });
        BinaryFacts facts = await RealQemu.FactsAsync(machine, _directory, Deadline);
        var settings = new LaunchSettings { DescribePath = static path => new HostPath(Directory.Exists(path) ? HostPathKind.Directory : HostPathKind.Missing) };
        VmSpec spec = Launch.Translate(parsed, facts, settings).Spec!;
        return (spec, new HeldDescriptors(spec));
    }

    private string Fill(string line)
    {
        string image = Path.Combine(_directory, "disk.img");
        if (!File.Exists(image))
        {
            using var file = File.Create(image);
            file.SetLength(1 << 20);
        }
        return line.Replace("{dir}", _directory, StringComparison.Ordinal).Replace("{image}", image, StringComparison.Ordinal)
            .Replace("{port}", FreePort(), StringComparison.Ordinal)
            .Replace("{gdb}", FreePort(), StringComparison.Ordinal);
    }

    private static string FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port.ToString();
    }

    /// <summary>Name and used size of every block, without page sizes, offsets and addresses.</summary>
    private static string[] Blocks(string table) =>
        [.. table.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(static row => row.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Select(static columns => $"{columns[0]} {columns[4]}").Order(StringComparer.Ordinal)];
}
