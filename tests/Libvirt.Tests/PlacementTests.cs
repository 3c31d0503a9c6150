using System.Text.Json;
using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>What only root may do for a guest stays as it was, although supervisor and QEMU run as libvirt's unprivileged user: root's
/// <c>cprsharp update</c> lends it.</summary>
public sealed class PlacementTests(LibvirtHost host)
{
    [Fact]
    public async Task Pinned_vCPUs_and_their_cgroups_are_those_of_before()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "pinned", new DomainOptions { Elements = "<iothreads>1</iothreads><cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='1'/></cputune>" });
        await domain.StartAsync();
        var before = await PlacesAsync(domain);
        Assert.Equal(3, before.Count);
        Assert.Contains("Cpus_allowed_list:\t0", before["vcpu 0"]);
        Assert.Contains("Cpus_allowed_list:\t1", before["vcpu 1"]);
        if (Directory.Exists("/sys/fs/cgroup/cpuset"))
            Assert.Contains("vcpu1", before["vcpu 1"]);

        foreach (var to in (string[])[Components.Qemu111, LibvirtHost.OwnQemu])
        {
            var report = await domain.UpdateAsync(to);
            Assert.DoesNotContain(report.GetProperty("findings").EnumerateArray(), f => f.GetProperty("id").GetString() == "process");
            Assert.Equal(before, await PlacesAsync(domain));
        }

        // libvirt has noted the old QEMU's threads, and asks anew when it starts.
        await host.RestartLibvirtdAsync();
        await domain.VirshAsync("vcpupin", "--vcpu", "0", "--cpulist", "1");
        Assert.Contains("Cpus_allowed_list:\t1", (await PlacesAsync(domain))["vcpu 0"]);
        await domain.UpdateAsync(Components.Qemu111);
        Assert.Contains("Cpus_allowed_list:\t1", (await PlacesAsync(domain))["vcpu 0"]);
    }

    [Fact]
    public async Task Without_root_the_update_says_what_it_could_not_keep()
    {
        RequireGroupsThatCanBeHandedOn();
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "unlent");
        await domain.StartAsync();
        var report = await domain.QmpAsync($$$"""{"execute":"__org.cprsharp_update","arguments":{"to":"{{{Components.Qemu111}}}"}}""");
        Assert.Equal("updated", report.GetProperty("outcome").GetString());
        var lost = report.GetProperty("findings").EnumerateArray().Where(f => f.GetProperty("id").GetString() == "process").ToArray();
        Assert.Equal(["vcpu-0", "vcpu-1"], lost.Select(f => f.GetProperty("object").GetString()));
        Assert.All(lost, f => Assert.Contains("as root", f.GetProperty("fix").GetString()));
    }

    /// <summary>One cgroup that root may not open does not keep it from lending the others.</summary>
    [Fact]
    public async Task What_root_could_not_lend_is_said_with_the_reason()
    {
        RequireGroupsThatCanBeHandedOn();
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "halflent");
        await domain.StartAsync();
        var group = await host.RunAsync("find", "/sys/fs/cgroup/cpuset", "-path", "*-halflent.*/vcpu0/tasks");
        await host.RunAsync("sh", "-c", $"mount --bind {group} {group} && mount -o remount,bind,ro {group}");
        try
        {
            var findings = (await domain.UpdateAsync(Components.Qemu111)).GetProperty("findings").EnumerateArray().ToArray();
            var notLent = Assert.Single(findings, f => f.GetProperty("id").GetString() == "not-lent");
            Assert.Equal(group, notLent.GetProperty("object").GetString());
            Assert.Contains("Read-only file system", notLent.GetProperty("evidence").GetString());
            Assert.Equal(["vcpu-0"], findings.Where(f => f.GetProperty("id").GetString() == "process").Select(f => f.GetProperty("object").GetString()));
        }
        finally
        {
            await host.RunAsync("umount", group);
        }
    }

    /// <summary>In a pause that lasts, because the update hangs in it, until the supervisor gives it up; or until its client is killed.</summary>
    [Fact]
    public async Task A_pause_is_in_real_time_when_root_updates_and_nothing_of_it_stays()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "boosted");
        await domain.StartAsync();
        using (var update = domain.StartUpdate(Components.Qemu111, "transfer.end:hang"))
        {
            await Deadlines.EventuallyAsync(async () => await domain.RealTimeThreadsAsync() > 0 ? null : "no thread is in real time");
            Assert.Equal(4, (await update.ResultAsync()).ExitCode);
        }

        Assert.Equal(0, await domain.RealTimeThreadsAsync());
        await domain.UpdateAsync(Components.Qemu111);
        Assert.Equal(0, await domain.RealTimeThreadsAsync());

        using (var update = domain.StartUpdate(LibvirtHost.OwnQemu, "transfer.end:hang"))
        {
            await Deadlines.EventuallyAsync(async () => await domain.RealTimeThreadsAsync() > 0 ? null : "no thread is in real time");
            await host.RunAsync("kill", "-KILL", $"{(await host.ProcessesAsync("cprsharp update boosted")).Single()}");
            await Deadlines.EventuallyAsync(async () => await domain.RealTimeThreadsAsync() == 0 ? null : "threads stay in real time");
            await Deadlines.EventuallyAsync(async () => (await host.ProcessesAsync("guest=boosted")).Length == 2 ? null : "the second QEMU is still there");
        }

        await domain.Log.GoesOnAsync();
        Assert.Equal(0, await domain.RealTimeThreadsAsync());
    }

    [Fact]
    public async Task A_bridged_network_goes_on()
    {
        host.Configure(("Qemu", Components.Qemu111)); // a guest that starts on 10.0.13 cannot take its virtio-net rings to 11.1
        try
        {
            await host.RunAsync("sh", "-c", "ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up");
            await using var domain = await Domain.DefineAsync(host, "bridged", new DomainOptions { Devices = "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>" });
            await domain.StartAsync();
            await host.RunAsync("sh", "-c", $"(echo 'net 10.77.0.2/24'; sleep 3) >{await domain.VirshAsync("ttyconsole")}");
            await Deadlines.EventuallyAsync(() => domain.Log.Text().Contains("CPRSHARP net eth0", StringComparison.Ordinal) ? null : "the guest has no network", Deadlines.Guest);

            // One connection, over both updates.
            var said = host.File("echo");
            using var connection = host.Start("bash", "-c", $"exec 3<>/dev/tcp/10.77.0.2/7; while echo \"$((++n))\" >&3 && read -rt 20 line <&3; do echo \"$line\" >>{said}; sleep 0.05; done");
            await GrowsAsync(said);
            Assert.Contains("tap-handover", (await RefusalAsync(domain)).GetRawText());
            var powerless = (await host.TryAsync("setpriv", "--bounding-set=-sys_admin", "cprsharp", "check", "bridged", "--json")).Expect(3).Document;
            var notLent = Assert.Single(powerless.GetProperty("findings").EnumerateArray(), f => f.GetProperty("id").GetString() == "not-lent");
            Assert.Equal("hostnet0", notLent.GetProperty("object").GetString());
            Assert.Contains("EPERM", notLent.GetProperty("evidence").GetString());
            foreach (var to in (string[])[LibvirtHost.OwnQemu, Components.Qemu111])
            {
                await domain.UpdateAsync(to);
                await GrowsAsync(said);
            }

            Assert.Equal("running", await domain.StateAsync());
            var lines = (await File.ReadAllLinesAsync(said)).Select(int.Parse).ToArray();
            Assert.Equal(Enumerable.Range(1, lines.Length), lines);
        }
        finally
        {
            await host.TryAsync("ip", "link", "del", "br0");
            host.Configure();
        }
    }

    private static void RequireGroupsThatCanBeHandedOn() =>
        Assert.SkipUnless(Directory.Exists("/sys/fs/cgroup/cpuset"), "this machine's CPU controllers are not on cgroup v1, which is what a host without a service manager can hand on");

    /// <summary>Through libvirt's monitor nobody lends anything.</summary>
    private static async Task<JsonElement> RefusalAsync(Domain domain)
    {
        var report = await domain.QmpAsync($$$"""{"execute":"__org.cprsharp_update","arguments":{"to":"{{{LibvirtHost.OwnQemu}}}"}}""");
        Assert.Equal("refused", report.GetProperty("outcome").GetString());
        return report;
    }

    private static async Task GrowsAsync(string file)
    {
        int Count() => File.Exists(file) ? File.ReadAllLines(file).Length : 0;
        var before = Count();
        await Deadlines.EventuallyAsync(() => Count() > before + 3 ? null : "the guest's network is silent");
    }

    /// <summary>Where the threads that libvirt places may run, and in which cgroups they are.</summary>
    private async Task<Dictionary<string, string>> PlacesAsync(Domain domain)
    {
        var threads = (await domain.QmpAsync("""{"execute":"query-cpus-fast"}""")).EnumerateArray().ToDictionary(c => $"vcpu {c.GetProperty("cpu-index")}", c => c.GetProperty("thread-id").GetInt32());
        foreach (var thread in (await domain.QmpAsync("""{"execute":"query-iothreads"}""")).EnumerateArray())
            threads[$"iothread {thread.GetProperty("id")}"] = thread.GetProperty("thread-id").GetInt32();
        var places = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (name, thread) in threads)
            places[name] = await host.RunAsync("sh", "-c", $"cat /proc/{thread}/cgroup; grep Cpus_allowed_list /proc/{thread}/status");
        return places;
    }
}
