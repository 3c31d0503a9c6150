using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Processes that serve a VM beside QEMU, and that serve one QEMU at a time: refused by name, and neither VM nor companion takes any harm.</summary>
public sealed class CompanionTests
{
    private static readonly string[] Engines = ["auto", "transfer", "shared-ram", "exec"];

    [Fact]
    public async Task ADiskOfQemusStorageDaemonIsRefusedUntilItIsUnplugged()
    {
        await using var host = new TestHost();
        var (image, socket) = (host.File("boot.img"), host.File("blk"));
        await File.WriteAllBytesAsync(image, BootSector('X'));
        using var companion = await StartAsync(host, "qemu-storage-daemon", socket,
        [
            "--blockdev", $"driver=file,node-name=file,filename={image}", "--blockdev", "driver=raw,node-name=raw,file=file",
            "--export", $"type=vhost-user-blk,id=export,addr.type=unix,addr.path={socket},node-name=raw",
        ]);
        var vm = await TestVm.StartAsync(host, "blk",
        [
            Components.Qemu111, .. TestVm.Bare, "-serial", $"file:{host.File("serial")}", "-device", "pcie-root-port,id=rp",
            "-chardev", $"socket,id=back,path={socket}", "-device", "vhost-user-blk-pci,id=disk,chardev=back,bus=rp,bootindex=1",
        ]);
        await BootsAsync(1);
        await ExpectRefusedAsync(vm, companion, "vhost-user", "disk");
        await vm.QmpAsync("system_reset");
        await BootsAsync(2);

        // What the report advises. A guest without an operating system lets a device go when it is reset.
        await using (var client = await vm.ConnectAsync())
        {
            using var deleted = client.Subscribe("DEVICE_DELETED");
            await client.ExecuteAsync("device_del", new JsonObject { ["id"] = "disk" }).WaitAsync(Deadlines.Settle);
            await client.ExecuteAsync("system_reset").WaitAsync(Deadlines.Settle);
            JsonElement gone;
            do
                gone = (await deleted.NextAsync().WaitAsync(Deadlines.Settle)).Data;
            while (!gone.TryGetProperty("device", out var id) || id.GetString() != "disk");
            await client.ExecuteAsync("chardev-remove", new JsonObject { ["id"] = "back" }).WaitAsync(Deadlines.Settle);
        }

        await vm.UpdateAsync(Components.Qemu111);
        Assert.False(companion.HasExited);
        await vm.QmpAsync("chardev-add", JsonNode.Parse($$"""{"id":"back","backend":{"type":"socket","data":{"server":false,"addr":{"type":"unix","data":{"path":"{{socket}}"} } } } }""")!.AsObject());
        await vm.QmpAsync("device_add", JsonNode.Parse("""{"driver":"vhost-user-blk-pci","id":"disk","chardev":"back","bus":"rp","bootindex":1}""")!.AsObject());
        await vm.QmpAsync("system_reset");
        await BootsAsync(3);
        await ExpectRefusedAsync(vm, companion, "vhost-user", "disk");
        await EndAsync(vm, companion);

        Task BootsAsync(int times) => Deadlines.EventuallyAsync(async () =>
            (await File.ReadAllTextAsync(host.File("serial"))).Count(c => c == 'X') is var seen && seen == times ? null : $"booted {seen} times from the disk, not {times}");
    }

    [Fact]
    public async Task AnEmulatedTpmIsRefused()
    {
        await using var host = new TestHost();
        var (socket, log) = (host.File("tpm"), host.File("tpm.log"));
        Directory.CreateDirectory(host.File("tpm-state"));
        using var companion = await StartAsync(host, "swtpm", socket,
            ["socket", "--tpm2", "--tpmstate", $"dir={host.File("tpm-state")}", "--ctrl", $"type=unixio,path={socket}", "--log", $"file={log},level=20"]);
        var vm = await TestVm.StartAsync(host, "tpm",
            [Components.Qemu111, .. TestVm.Bare, "-chardev", $"socket,id=back,path={socket}", "-tpmdev", "emulator,id=tpm0,chardev=back", "-device", "tpm-tis,tpmdev=tpm0"]);
        await FirmwareSpeaksToItAsync(0);
        await ExpectRefusedAsync(vm, companion, "tpm", "tpm0");
        var before = new FileInfo(log).Length;
        await vm.QmpAsync("system_reset");
        await FirmwareSpeaksToItAsync((int)before);
        await EndAsync(vm, companion);

        // TPM2_Startup, as the firmware sends it each time.
        Task FirmwareSpeaksToItAsync(int from) => Deadlines.EventuallyAsync(async () =>
            (await File.ReadAllTextAsync(log))[from..] is var text && text.Contains("80 01 00 00 00 0C 00 00 01 44", StringComparison.Ordinal) ? null : $"nothing for the TPM: {text}");
    }

    [Fact]
    public async Task ADirectoryOfVirtiofsdIsRefused()
    {
        await using var host = new TestHost();
        var (guest, socket, shared) = (new LinuxGuest(host), host.File("fs"), host.File("shared"));
        Directory.CreateDirectory(shared);
        using var companion = await StartAsync(host, "virtiofsd", socket, [$"--socket-path={socket}", $"--shared-dir={shared}", "--sandbox=none"]);
        var vm = await TestVm.StartAsync(host, "fs",
        [
            Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk,queue-size=1024",
            "-chardev", $"socket,id=back,path={socket}", "-device", "vhost-user-fs-pci,id=share,chardev=back,tag=host",
        ]);
        await guest.ReadyAsync();
        await GuestReadsAsync("before");
        await ExpectRefusedAsync(vm, companion, "vhost-user", "share");
        await GuestReadsAsync("after");
        await guest.ExpectUnharmedAsync();
        await EndAsync(vm, companion);

        async Task GuestReadsAsync(string name)
        {
            await File.WriteAllTextAsync(Path.Combine(shared, name), $"written-{name}");
            Assert.Contains($"{name} written-{name}", await guest.AskAsync($"share {name}", "share"), StringComparison.Ordinal);
        }
    }

    private static async Task<RunningProgram> StartAsync(TestHost host, string program, string socket, string[] arguments)
    {
        var companion = host.StartProgram(Components.Companion(program), null, null, arguments);
        await Deadlines.EventuallyAsync(() => File.Exists(socket) ? null : $"{program} does not listen");
        Assert.False(companion.HasExited);
        return companion;
    }

    private static async Task ExpectRefusedAsync(TestVm vm, RunningProgram companion, string finding, string name)
    {
        var (pid, generation) = (vm.VmmPid, vm.Generation);
        var check = (await vm.Host.CprSharpAsync("check", vm.Name, "--to", Components.Qemu111, "--json")).Expect(3).Document;
        Documents.ExpectCheckReport(check, vm.Name, "blocked");
        ExpectNamed(check);
        foreach (var engine in Engines)
            ExpectNamed(await vm.UpdateAsync(Components.Qemu111, engine, exitCode: 3));
        Assert.Equal((pid, generation, "running"), (vm.VmmPid, vm.Generation, await vm.RunStateAsync()));
        Assert.Single(vm.Host.Processes(), p => p.IsVmm);
        Assert.False(companion.HasExited);

        void ExpectNamed(JsonElement report) => Assert.Contains(
            report.GetProperty("findings").EnumerateArray(),
            f => (f.GetProperty("severity").GetString(), f.GetProperty("id").GetString(), f.GetProperty("object").GetString()) == ("fail", finding, name)
                && f.GetProperty("fix").GetString() is { Length: > 0 });
    }

    private static async Task EndAsync(TestVm vm, RunningProgram companion)
    {
        await vm.QuitAsync();
        if (!companion.HasExited)
            await TestHost.EndAsync(companion.Pid);
        await vm.Host.ExpectNothingLeftAsync();
    }

    /// <summary>A disk whose boot sector says one character on the serial port and stops.</summary>
    private static byte[] BootSector(char says)
    {
        var disk = new byte[1 << 20];
        byte[] code = [0xba, 0xf8, 0x03, 0xb0, (byte)says, 0xee, 0xf4, 0xeb, 0xfd]; // mov dx, 0x3f8; mov al, says; out dx, al; hlt; jmp back
        code.CopyTo(disk, 0);
        (disk[510], disk[511]) = (0x55, 0xaa);
        return disk;
    }
}
