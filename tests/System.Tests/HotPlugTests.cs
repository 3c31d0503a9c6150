using System.Text.Json.Nodes;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>What is plugged, unplugged and changed at run time goes along to the next VMM, or is refused by name.</summary>
public sealed class HotPlugTests(HotPlugTests.Machine machine) : IClassFixture<HotPlugTests.Machine>
{
    [Fact]
    public async Task ANicAndADiskOnRootPortsGoAlongAndCanBeUnplugged()
    {
        var vm = machine.Vm;
        await vm.QmpAsync("netdev_add", Object("""{"type":"user","id":"hot-net"}"""));
        await vm.QmpAsync("device_add", Object("""{"driver":"e1000e","id":"hot-nic","netdev":"hot-net","bus":"rp1","mac":"52:54:00:aa:bb:cc"}"""));
        var image = machine.Host.File("hot.img");
        await using (var file = File.Create(image))
            file.SetLength(8 << 20);
        await vm.QmpAsync("blockdev-add", Object($$"""{"driver":"raw","node-name":"hot-disk","file":{"driver":"file","filename":"{{image}}"} }"""));
        await vm.QmpAsync("device_add", Object("""{"driver":"virtio-blk-pci","id":"hot-blk","drive":"hot-disk","bus":"rp2","serial":"hot"}"""));

        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            await vm.UpdateAsync(to);
            await vm.ExpectOneRunningVmmAsync();
            Assert.Contains("e1000e", await vm.HumanAsync("info qtree"));
            Assert.Equal("52:54:00:aa:bb:cc", await GetAsync(vm, "/machine/peripheral/hot-nic", "mac"));
            Assert.Equal("hot", await GetAsync(vm, "/machine/peripheral/hot-blk", "serial"));
            Assert.Contains("hot-disk", (await vm.QmpAsync("query-named-block-nodes")).ToString());
        }

        // A guest without an operating system lets nothing go by itself: what a reset does, QEMU answers with DEVICE_DELETED.
        foreach (var id in new[] { "hot-nic", "hot-blk" })
            await UnplugAsync(vm, id);
        await vm.QmpAsync("netdev_del", Object("""{"id":"hot-net"}"""));
        await vm.QmpAsync("blockdev-del", Object("""{"node-name":"hot-disk"}"""));
        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            await vm.UpdateAsync(to);
            await vm.ExpectOneRunningVmmAsync();
            Assert.DoesNotContain("hot-", await vm.HumanAsync("info qtree"));
            Assert.DoesNotContain("hot-disk", (await vm.QmpAsync("query-named-block-nodes")).ToString());
        }
    }

    /// <summary>QEMU counts on the descriptors of option ROMs that it has closed: see <c>DeviceMemory</c>.</summary>
    [Fact]
    public async Task NicsThatAreUnpluggedTakeNeitherTheGuestNorADiskWithThem()
    {
        await using var host = new TestHost();
        string[] nics = ["a", "b", "c"];
        var vm = await TestVm.StartAsync(host, "roms", [Components.Qemu111, .. TestVm.Bare, .. nics.SelectMany(static (n, i) => new[]
        {
            "-netdev", $"user,id=net-{n}", "-device", $"pcie-root-port,id=port-{n},chassis={i + 1},slot={i + 1}", "-device", $"virtio-net-pci,id=nic-{n},netdev=net-{n},bus=port-{n}",
        })], SharedVm.Environment(guardian: true));
        foreach (var n in nics)
        {
            await UnplugAsync(vm, $"nic-{n}");
            await vm.QmpAsync("netdev_del", Object($$"""{"id":"net-{{n}}"}"""));
        }

        var image = host.File("disk.img");
        await using (var file = File.Create(image))
            file.SetLength(8 << 20);
        await vm.QmpAsync("blockdev-add", Object($$"""{"driver":"raw","node-name":"disk","file":{"driver":"file","filename":"{{image}}"} }"""));
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await vm.ExpectOneRunningVmmAsync();
        foreach (var n in nics)
        {
            await vm.QmpAsync("netdev_add", Object($$"""{"type":"user","id":"net-{{n}}"}"""));
            await vm.QmpAsync("device_add", Object($$"""{"driver":"virtio-net-pci","id":"nic-{{n}}","netdev":"net-{{n}}","bus":"port-{{n}}"}"""));
        }

        Assert.False((await File.ReadAllBytesAsync(image)).AsSpan().ContainsAnyExcept((byte)0), "an option ROM was written into the disk image");
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task AVcpuGoesAlong()
    {
        var vm = machine.Vm;
        var slot = (await vm.QmpAsync("query-hotpluggable-cpus")).EnumerateArray().First(c => !c.TryGetProperty("qom-path", out _));
        var arguments = JsonObject.Create(slot.GetProperty("props"))!;
        arguments["driver"] = slot.GetProperty("type").GetString();
        arguments["id"] = "hot-cpu";
        await vm.QmpAsync("device_add", arguments);
        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            await vm.UpdateAsync(to);
            Assert.Equal(2, (await vm.QmpAsync("query-cpus-fast")).GetArrayLength());
        }

        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>Memory that was plugged is shared with nobody: either it goes along, or the check names it before anything is touched.</summary>
    [Fact]
    public async Task MemoryGoesAlongOrIsRefusedByName()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "dimm", [Components.Qemu111, .. Machine.Line(host)]);
        await vm.QmpAsync("object-add", Object("""{"qom-type":"memory-backend-ram","id":"hot-mem","size":134217728}"""));
        await vm.QmpAsync("device_add", Object("""{"driver":"pc-dimm","id":"hot-dimm","memdev":"hot-mem"}"""));
        var check = await host.CprSharpAsync("check", vm.Name, "--to", Components.Qemu100, "--json");
        if (check.ExitCode == 3)
        {
            Assert.Contains(check.Document.GetProperty("findings").EnumerateArray(), f => f.GetProperty("severity").GetString() == "fail" && f.ToString().Contains("hot-mem", StringComparison.Ordinal));
            await vm.UpdateAsync(Components.Qemu100, exitCode: 3);
        }
        else
        {
            check.Expect(0);
            foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
            {
                await vm.UpdateAsync(to);
                Assert.Contains("hot-dimm", (await vm.QmpAsync("query-memory-devices")).ToString());
            }
        }

        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task SharedMemoryThatWasPluggedGoesAlongOrIsRefusedByName()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "shmem", [Components.Qemu111, .. Machine.Line(host)]);
        var path = host.File("hot-memory");
        await vm.QmpAsync("object-add", Object($$"""{"qom-type":"memory-backend-file","id":"hot-mem","size":134217728,"share":true,"mem-path":"{{path}}"}"""));
        await vm.QmpAsync("device_add", Object("""{"driver":"pc-dimm","id":"hot-dimm","memdev":"hot-mem"}"""));
        var update = vm.StartUpdate(Components.Qemu100);
        var result = await update.ResultAsync();
        var report = vm.Report(result, result.ExitCode == 3 ? 3 : 0);
        if (result.ExitCode == 3)
            Assert.Contains("hot-", report.GetProperty("error").GetProperty("message").GetString());
        else
            Assert.Contains("hot-dimm", (await vm.QmpAsync("query-memory-devices")).ToString());
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
    }

    [Fact]
    public async Task ADevicePluggedByTheHumanMonitorIsRefusedByName()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "hmp", [Components.Qemu111, .. Machine.Line(host)]);
        var pid = vm.VmmPid;
        Assert.Equal("", await vm.HumanAsync("device_add virtio-rng-pci,id=sneaked-in,bus=rp1"));
        var report = await vm.UpdateAsync(Components.Qemu100, exitCode: 3);
        Assert.Contains("sneaked-in", report.GetProperty("error").ToString() + report.GetProperty("findings"));
        await vm.ExpectOneRunningVmmAsync();
        Assert.Equal(pid, vm.VmmPid);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AChangedMediumGoesAlong()
    {
        var vm = machine.Vm;
        var other = machine.Host.File("other.iso");
        await using (var file = File.Create(other))
            file.SetLength(4 << 20);
        await vm.QmpAsync("blockdev-change-medium", new JsonObject { ["id"] = "cd", ["filename"] = other, ["format"] = "raw" });
        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            await vm.UpdateAsync(to);
            Assert.Equal(other, await MediumAsync(vm));
        }

        await vm.QmpAsync("eject", new JsonObject { ["id"] = "cd", ["force"] = true });
        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            await vm.UpdateAsync(to);
            Assert.Null(await MediumAsync(vm));
        }

        await vm.ExpectOneRunningVmmAsync();
    }

    private static async Task<string?> MediumAsync(TestVm vm)
    {
        var drive = (await vm.QmpAsync("query-block")).EnumerateArray().Single(b => b.TryGetProperty("qdev", out var q) && q.GetString()!.Contains("cd", StringComparison.Ordinal));
        return drive.TryGetProperty("inserted", out var inserted) ? inserted.GetProperty("image").GetProperty("filename").GetString() : null;
    }

    private static async Task UnplugAsync(TestVm vm, string id)
    {
        await using var client = await vm.ConnectAsync();
        using var events = client.Subscribe("DEVICE_DELETED");
        await client.ExecuteAsync("device_del", new JsonObject { ["id"] = id }).WaitAsync(Deadlines.Settle);
        await client.ExecuteAsync("system_reset").WaitAsync(Deadlines.Settle);
        await events.NextAsync(e => e.Data.TryGetProperty("device", out var device) && device.GetString() == id).WaitAsync(Deadlines.Settle);
    }

    private static async Task<string?> GetAsync(TestVm vm, string path, string property) =>
        (await vm.QmpAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = property })).GetString();

    private static JsonObject Object(string json) => JsonNode.Parse(json)!.AsObject();

    /// <summary>A machine with room for everything.</summary>
    public sealed class Machine : IAsyncLifetime
    {
        internal TestHost Host { get; } = new();

        internal TestVm Vm { get; private set; } = null!;

        internal static string[] Line(TestHost host)
        {
            var iso = host.File("first.iso");
            using (var file = File.Create(iso))
                file.SetLength(2 << 20);
            return
            [
                "-M", "pc-q35-10.0", "-accel", "tcg", "-m", "128,slots=4,maxmem=1G", "-smp", "1,maxcpus=2", "-nodefaults", "-display", "none", "-vga", "none",
                "-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-device", "pcie-root-port,id=rp2,chassis=2,slot=2",
                "-drive", $"file={iso},if=none,id=cd-drive,media=cdrom,readonly=on,format=raw", "-device", "ide-cd,drive=cd-drive,id=cd",
            ];
        }

        public async ValueTask InitializeAsync() => Vm = await TestVm.StartAsync(Host, "hot", [Components.Qemu111, .. Line(Host)]);

        public async ValueTask DisposeAsync()
        {
            try
            {
                await Vm.QuitAsync();
                await Host.ExpectNothingLeftAsync();
            }
            finally
            {
                await Host.DisposeAsync();
            }
        }
    }
}
