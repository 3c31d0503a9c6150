using System.Globalization;
using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>The package on a Debian with systemd: a VM as a service.</summary>
public sealed class ServiceTests
{
    [Fact]
    public async Task AnUpgradeAndARemovalOfThePackageLeaveTheVmRunning()
    {
        await using var host = await ServiceHost.StartAsync();
        await host.InstallAsync("0.1.0");
        await host.StartVmAsync();
        var supervisor = await host.MainPidAsync();
        var first = await host.RunningVmmAsync();
        Assert.Equal($"QEMU 11.1.3 (pid {first})", await host.ShowAsync("StatusText"));
        await host.RunAsync("cprsharp", "update", "web1", "--to", ServiceHost.Qemu100, "--state-dir", "/run/cprsharp");
        var vmm = await host.RunningVmmAsync();
        Assert.Equal($"QEMU 10.0.13 (pid {vmm}), last update updated", await host.ShowAsync("StatusText"));

        await host.InstallAsync("0.2.0");
        Assert.Equal(supervisor, await host.MainPidAsync());
        Assert.Equal("/usr/bin/cprsharp", await host.RunAsync("readlink", $"/proc/{supervisor}/exe"));
        Assert.Equal(vmm, await host.RunningVmmAsync());
        Assert.Equal("active", await host.ShowAsync("ActiveState"));

        await host.RunAsync("dpkg", "--remove", "cprsharp");
        await host.RunAsync("systemctl", "daemon-reload");
        Assert.Equal("not-found", await host.ShowAsync("LoadState"));
        Assert.Equal("active", await host.ShowAsync("ActiveState"));
        Assert.Equal(supervisor, await host.MainPidAsync());
        Assert.Equal(vmm, await host.RunningVmmAsync());

        await host.RunAsync("systemctl", "stop", ServiceHost.Unit);
        await Deadlines.EventuallyAsync(() => host.HasProcess(vmm) || Directory.Exists(host.Inside("/run/cprsharp/web1")) ? "the VM runs on though its unit was stopped" : null);
        Assert.False(host.HasProcess(supervisor));
    }

    [Fact]
    public async Task TheUnitLastsAsLongAsItsGuestWhateverHappensToSupervisors()
    {
        await using var host = await ServiceHost.StartAsync();
        await host.InstallAsync("0.1.0");
        await host.StartVmAsync("WatchdogSec=10", "-serial", "pty");
        var vmm = await host.RunningVmmAsync();

        // Somebody has the console open, so that its number would not be given again to a new one.
        var console = await ConsoleAsync();
        await host.RunAsync("sh", "-c", $"exec setsid sleep infinity <{console["pty:".Length..]} >/dev/null 2>&1 &");
        var active = await host.ShowAsync("ActiveEnterTimestampMonotonic");

        // The guardian takes over, twice; the unit has never been anything but active.
        for (var round = 0; round < 2; round++)
        {
            await SignalMainAsync("KILL");
            Assert.Equal(active, await host.ShowAsync("ActiveEnterTimestampMonotonic"));
            Assert.Equal($"QEMU 11.1.3 (pid {vmm})", await host.ShowAsync("StatusText"));
        }

        // It feeds the watchdog, too: what comes next would fail otherwise. A supervisor that hangs is killed by systemd.
        await host.RunAsync("cprsharp", "update", "web1", "--to", ServiceHost.Qemu111, "--state-dir", "/run/cprsharp");
        vmm = await host.RunningVmmAsync();
        Assert.Equal("0", await host.ShowAsync("NRestarts"));
        await SignalMainAsync("STOP");
        Assert.Equal("1", await host.ShowAsync("NRestarts"));

        // With the guardian dead as well nobody is left but systemd.
        var supervisor = await host.MainPidAsync();
        var guardian = await host.RunAsync("pgrep", "-P", supervisor.ToString(CultureInfo.InvariantCulture), "-f", "cprsharp-guardian");
        await host.RunAsync("kill", "-STOP", guardian);
        await host.RunAsync("kill", "-KILL", supervisor.ToString(CultureInfo.InvariantCulture), guardian);
        await UntilMainIsNotAsync(supervisor);
        Assert.Equal("2", await host.ShowAsync("NRestarts"));
        Assert.Equal("1", await host.ShowAsync("NFileDescriptorStore"));

        await host.RunAsync("systemctl", "stop", ServiceHost.Unit);
        Assert.Equal("inactive", await host.ShowAsync("ActiveState"));
        Assert.False(host.HasProcess(vmm));
        Assert.False(Directory.Exists(host.Inside("/run/cprsharp/web1")));

        async Task SignalMainAsync(string signal)
        {
            var main = await host.MainPidAsync();
            await host.RunAsync("kill", $"-{signal}", main.ToString(CultureInfo.InvariantCulture));
            await UntilMainIsNotAsync(main);
        }

        async Task UntilMainIsNotAsync(int former)
        {
            await Deadlines.EventuallyAsync(async () =>
            {
                var main = await host.MainPidAsync();
                return main == 0 || main == former || await host.ShowAsync("ActiveState") != "active" ? $"main process {main}, formerly {former}" : null;
            }, Deadlines.Program);
            Assert.Equal(vmm, await host.RunningVmmAsync());
            Assert.Equal(console, await ConsoleAsync());
        }

        async Task<string> ConsoleAsync() =>
            (await host.QmpAsync("query-chardev")).EnumerateArray().Single(c => c.GetProperty("label").GetString() == "serial0").GetProperty("filename").GetString()!;
    }

    [Fact]
    public async Task TheJournalKnowsWhatAnUpdateWas()
    {
        await using var host = await ServiceHost.StartAsync();
        await host.InstallAsync("0.1.0");
        await host.StartVmAsync();
        await host.RunAsync("cprsharp", "update", "web1", "--to", ServiceHost.Qemu100, "--engine", "shared-ram", "--state-dir", "/run/cprsharp");
        var entry = await EntryAsync("UpdateEnded");
        Assert.Equal("web1", entry.GetProperty("CPRSHARP_VM").GetString());
        Assert.Equal("updated", entry.GetProperty("CPRSHARP_OUTCOME").GetString());
        Assert.Equal("shared-ram", entry.GetProperty("CPRSHARP_ENGINE").GetString());
        Assert.Equal("retire", entry.GetProperty("CPRSHARP_PHASE").GetString());
        Assert.InRange(double.Parse(entry.GetProperty("CPRSHARP_PAUSE_MS").GetString()!, CultureInfo.InvariantCulture), 0.1, 10_000);
        Assert.Equal("6", entry.GetProperty("PRIORITY").GetString());
        Assert.Equal(ServiceHost.Unit, entry.GetProperty("_SYSTEMD_UNIT").GetString());

        // More than a datagram holds.
        var large = $"/opt/{new string('x', 1 << 20)}";
        await host.QmpAsync("__org.cprsharp_update", new() { ["to"] = large });
        Assert.Contains(large, (await EntryAsync("UpdateEnded")).GetProperty("CPRSHARP_ERROR").GetString(), StringComparison.Ordinal);

        // Whoever takes over tells the journal as well; nobody tells it twice.
        var supervisor = await host.MainPidAsync();
        await host.RunAsync("kill", "-KILL", supervisor.ToString(CultureInfo.InvariantCulture));
        await Deadlines.EventuallyAsync(async () => await host.MainPidAsync() is var main && (main == 0 || main == supervisor) ? "no guardian" : null, Deadlines.Program);
        Assert.Equal("web1", (await EntryAsync("TakenOver")).GetProperty("CPRSHARP_VM").GetString());
        var all = await host.RunAsync("journalctl", "--no-pager", "-u", ServiceHost.Unit, "-o", "cat");
        Assert.Single(all.Split('\n'), l => l.Contains("VM web1 taken over", StringComparison.Ordinal));

        async Task<JsonElement> EntryAsync(string name)
        {
            await host.RunAsync("journalctl", "--sync");
            using var document = JsonDocument.Parse(await host.RunAsync("journalctl", "--no-pager", "-u", ServiceHost.Unit, "-o", "json", "--all", "-n", "1", $"CPRSHARP_EVENT={name}"));
            return document.RootElement.Clone();
        }
    }
}
