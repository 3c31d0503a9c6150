using System.Text;
using CprSharp.LibvirtTests.Harness;
using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>libvirt does not notice that its domain's QEMU was replaced, and goes on with the new one as with the old.</summary>
public sealed class UpdateTests(LibvirtHost host)
{
    [Fact]
    public async Task A_domain_is_updated_by_name_and_by_QMP_and_libvirt_tells_nobody()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "web1", new DomainOptions { HasDisk = true });
        await domain.StartAsync();
        var id = await host.VirshAsync("domid", "web1");
        using (var events = await EventWatch.StartAsync(host, domain))
        {
            var before = events.Seen().Length;
            await domain.UpdateAsync(Components.Qemu111);
            Assert.Equal("11.1.3", (await domain.VmmAsync()).Version);
            var back = await domain.QmpAsync($$$"""{"execute":"__org.cprsharp_update","arguments":{"to":"{{{LibvirtHost.OwnQemu}}}"}}""");
            Assert.Equal("updated", back.GetProperty("outcome").GetString());
            await domain.Log.GoesOnAsync();
            Assert.Equal("running", await domain.StateAsync());
            var told = (await events.ProveAsync())[before..];
            Assert.DoesNotContain(told, l => !l.Contains("custom-monitor", StringComparison.Ordinal));
        }

        Assert.Equal(id, await host.VirshAsync("domid", "web1"));
        await domain.Log.ExpectUnharmedAsync();
    }

    [Fact]
    public async Task What_an_operator_does_with_a_domain_works_before_and_after_an_update()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "ops", new DomainOptions { HasDisk = true });
        var second = host.File("second.img");
        await using (var image = File.Create(second))
            image.SetLength(4 << 20);
        File.SetUnixFileMode(second, (UnixFileMode)0b110_110_110);
        var device = host.File("second.xml");
        await File.WriteAllTextAsync(device, $"<disk type='file' device='disk'><driver name='qemu' type='raw' queue_size='1024'/><source file='{second}'/><target dev='vdb' bus='virtio'/></disk>");

        await domain.StartAsync();
        await OperateAsync(domain, device);
        await domain.UpdateAsync(Components.Qemu111);
        await OperateAsync(domain, device);
        await host.RestartLibvirtdAsync();
        await OperateAsync(domain, device);
        await domain.UpdateAsync(LibvirtHost.OwnQemu);
        await OperateAsync(domain, device);

        // What is plugged in by libvirt goes over, too.
        await domain.VirshAsync("attach-device", "--file", device);
        await domain.UpdateAsync(Components.Qemu111);
        Assert.Contains("vdb", await domain.VirshAsync("domblklist"));
        Assert.Contains("second.img", (await domain.QmpAsync("""{"execute":"query-named-block-nodes"}""")).GetRawText());
        await DetachAsync(domain, device);
    }

    [Fact]
    public async Task Libvirtd_is_restarted_while_an_update_is_under_way()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "restart");
        await domain.StartAsync();
        using var update = domain.StartUpdate(Components.Qemu111, "prepare.ready:hang");
        await Deadlines.EventuallyAsync(async () => (await host.ProcessesAsync("guest=restart")).Length == 3 ? null : "no second QEMU");
        await host.RestartLibvirtdAsync();
        Assert.Equal("running", await domain.StateAsync());
        await domain.QmpAsync("""{"execute":"__org.cprsharp_cancel"}"""); // the one way out of a hang: nothing was touched yet
        Assert.Equal(1, (await update.ResultAsync()).ExitCode);
        await domain.UpdateAsync(Components.Qemu111);
        Assert.Equal("running", await domain.StateAsync());
    }

    /// <summary>In a pause that lasts until the supervisor gives it up, and around one that is as short as ever.</summary>
    [Fact]
    public async Task Libvirtd_is_restarted_in_the_pause()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "repaused");
        await domain.StartAsync();
        using (var update = domain.StartUpdate(Components.Qemu111, "transfer.end:hang"))
        {
            await Deadlines.EventuallyAsync(async () => (await host.RunAsync("cprsharp", "status", "repaused", "--json")).Contains("\"verify\"", StringComparison.Ordinal) ? null : "the pause has not begun");
            await host.RestartLibvirtdAsync();
            Assert.Equal(4, (await update.ResultAsync()).ExitCode);
        }

        Assert.Equal("running", await domain.StateAsync());
        await domain.Log.GoesOnAsync();

        var id = await host.VirshAsync("domid", "repaused");
        await Task.WhenAll(host.RestartLibvirtdAsync(), domain.UpdateAsync(Components.Qemu111));
        Assert.Equal("running", await domain.StateAsync());
        Assert.Equal(id, await host.VirshAsync("domid", "repaused"));
        await domain.QmpAsync("""{"execute":"query-status"}""");
        await domain.UpdateAsync(LibvirtHost.OwnQemu);
    }

    /// <summary>libvirt turns the migration's events on once, when it connects, and waits for them in every job.</summary>
    [Fact]
    public async Task A_domain_is_saved_after_an_update_and_goes_on_where_it_was()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "saved", new DomainOptions { HasDisk = true });
        await domain.StartAsync();
        await domain.UpdateAsync(Components.Qemu111);
        await domain.UpdateAsync(LibvirtHost.OwnQemu);
        await domain.VirshAsync("managedsave");
        Assert.Equal("shut off", await domain.StateAsync());
        var ticks = domain.Log.Reports()[^1].Ticks;
        await domain.VirshAsync("start");
        await domain.Log.GoesOnAsync();
        Assert.True(domain.Log.Reports()[^1].Ticks > ticks);
        Assert.Equal(0, domain.Log.Reports()[^1].MemoryErrors);
        Assert.Equal("10.0.13", (await domain.VmmAsync()).Version);
        await domain.UpdateAsync(Components.Qemu111);
    }

    [Fact]
    public async Task A_domain_goes_to_another_host_before_an_update_and_back_after_it()
    {
        host.Configure();
        await using var other = await host.StartOtherAsync("two");
        await using var domain = await Domain.DefineAsync(host, "moved");
        await domain.StartAsync();
        await MigrateAsync(host, other, "two");
        foreach (var to in (string[])[Components.Qemu111, LibvirtHost.OwnQemu])
            (await other.TryAsync("cprsharp", "update", "moved", "--to", to)).Expect(0);
        await MigrateAsync(other, host, "one");
        await domain.UpdateAsync(Components.Qemu111);

        async Task MigrateAsync(LibvirtHost from, LibvirtHost to, string name)
        {
            await from.VirshAsync("migrate", "--live", "--domain", "moved", "--desturi", to.ConnectUri, "--migrateuri", $"unix://{host.File(name)}/migration");
            Assert.Equal("running", await to.VirshAsync("domstate", "moved"));
            Assert.DoesNotContain("moved", await from.VirshAsync("list", "--name"));
            await domain.Log.GoesOnAsync();
            Assert.Equal(0, domain.Log.Reports()[^1].MemoryErrors);
        }
    }

    [Fact]
    public async Task Limits_that_libvirt_has_set_hold_after_an_update()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "limits", new DomainOptions { HasDisk = true });
        await domain.StartAsync();
        await domain.VirshAsync("blkdeviotune", "--device", "vda", "--total-iops-sec", "4321", "--total-bytes-sec", "7654321", "--live");
        var before = await ThrottleAsync(domain);
        Assert.Contains("4321", before);
        var report = await domain.UpdateAsync(Components.Qemu111);
        Assert.DoesNotContain(report.GetProperty("findings").EnumerateArray(), f => f.GetProperty("id").GetString() == "setting-lost");
        Assert.Equal(before, await ThrottleAsync(domain));
        Assert.Contains("4321", await domain.VirshAsync("blkdeviotune", "--device", "vda"));
    }

    [Fact]
    public async Task Who_reads_the_console_goes_on_reading()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "console");
        await domain.StartAsync();
        var terminal = await domain.VirshAsync("ttyconsole");
        var read = host.File("console.read");
        using var reader = host.Start("sh", "-c", $"stty -F {terminal} raw -echo; exec cat {terminal} >{read}");
        await Deadlines.EventuallyAsync(() => Lines(read).Length > 1 ? null : "nothing comes from the console");
        await domain.UpdateAsync(Components.Qemu111);
        await domain.UpdateAsync(LibvirtHost.OwnQemu);
        Assert.Equal(terminal, await domain.VirshAsync("ttyconsole"));
        await domain.Log.GoesOnAsync();
        var log = domain.Log.Text().Split('\n');
        var lines = Lines(read)[1..^1]; // the first may be a part of a line, the last the begin of one
        var at = Array.IndexOf(log, lines[0]);
        Assert.True(at >= 0, lines[0]);
        Assert.Equal(log[at..(at + lines.Length)], lines);
    }

    [Fact]
    public async Task Who_types_at_virsh_console_goes_on_typing()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "typed");
        await domain.StartAsync();
        using var terminal = Pseudoterminal.Open();
        await using var keyboard = new FileStream(terminal.Master, FileAccess.Write, 0);
        var read = host.File("typed.read");
        using var console = host.StartOn(terminal.Path, read, "virsh", "console", domain.Name);
        await Deadlines.EventuallyAsync(() => Lines(read).Length > 1 ? null : "virsh console shows nothing");
        await TypeAsync("ping nobody");
        await TypeAsync("\r");
        await HeardAsync("pong nobody");
        foreach (var binary in new[] { Components.Qemu111, LibvirtHost.OwnQemu })
        {
            var name = Path.GetRandomFileName();
            await TypeAsync($"ping {name}");
            await domain.UpdateAsync(binary);
            await TypeAsync(" again\r");
            await HeardAsync($"pong {name} again");
        }

        await keyboard.WriteAsync("\x1d"u8.ToArray()); // ^], which ends virsh console
        Assert.Equal(0, (await console.ResultAsync()).ExitCode);

        async Task TypeAsync(string text) => await keyboard.WriteAsync(Encoding.ASCII.GetBytes(text));

        Task HeardAsync(string answer) =>
            Deadlines.EventuallyAsync(() => Lines(read).Any(l => l.Contains(answer, StringComparison.Ordinal)) ? null : $"no '{answer}': {string.Join('\n', Lines(read).TakeLast(5))}");
    }

    private static string[] Lines(string file) => File.Exists(file) ? File.ReadAllText(file).Split('\n') : [];

    private static async Task<string> ThrottleAsync(Domain domain)
    {
        var inserted = (await domain.QmpAsync("""{"execute":"query-block"}"""))[0].GetProperty("inserted");
        return string.Join(' ', inserted.EnumerateObject().Where(p => p.Name.StartsWith("iops", StringComparison.Ordinal) || p.Name.StartsWith("bps", StringComparison.Ordinal)).Select(p => $"{p.Name}={p.Value}"));
    }

    private async Task OperateAsync(Domain domain, string device)
    {
        Assert.Contains("running", await domain.VirshAsync("dominfo"));
        Assert.Contains(domain.Name, await host.VirshAsync("list", "--name"));
        Assert.Contains("state.state=1", await domain.VirshAsync("domstats"));
        await domain.VirshAsync("suspend");
        Assert.Equal("paused", await domain.StateAsync());
        Assert.Equal("paused", (await domain.QmpAsync("""{"execute":"query-status"}""")).GetProperty("status").GetString());
        await domain.VirshAsync("resume");
        Assert.Equal("running", (await domain.QmpAsync("""{"execute":"query-status"}""")).GetProperty("status").GetString());
        Assert.Contains("rd_req", await domain.VirshAsync("domblkstat", "--device", "vda"));
        await domain.VirshAsync("domblkinfo", "--device", "vda");
        Assert.Contains("/dev/pts/", await domain.VirshAsync("ttyconsole"));
        await domain.VirshAsync("attach-device", "--file", device);
        Assert.Contains("vdb", await domain.VirshAsync("domblklist"));
        await DetachAsync(domain, device);
        await domain.Log.GoesOnAsync();
    }

    private static async Task DetachAsync(Domain domain, string device)
    {
        await domain.VirshAsync("detach-device", "--file", device);
        await Deadlines.EventuallyAsync(async () => (await domain.VirshAsync("domblklist")).Contains("vdb", StringComparison.Ordinal) ? "the disk is still there" : null);
    }
}
