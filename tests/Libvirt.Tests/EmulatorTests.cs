using System.Globalization;
using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>The launcher in QEMU's place: what libvirt asks it, and what it kills.</summary>
public sealed class EmulatorTests(LibvirtHost host)
{
    [Fact]
    public async Task Libvirt_finds_in_it_what_it_finds_in_QEMU()
    {
        host.Configure();

        // libvirt remembers what the launcher said when another test had it start another QEMU, until the file changes.
        await host.RunAsync("touch", LibvirtHost.Emulator);
        var wrapped = await host.VirshAsync("domcapabilities", "--emulatorbin", LibvirtHost.Emulator);
        var plain = await host.VirshAsync("domcapabilities", "--emulatorbin", LibvirtHost.OwnQemu);
        Assert.Contains("<arch>x86_64</arch>", plain);
        Assert.Equal(plain.Replace(LibvirtHost.OwnQemu, LibvirtHost.Emulator, StringComparison.Ordinal), wrapped);
    }

    [Fact]
    public async Task What_starts_no_domain_is_QEMUs_by_an_exec_that_leaves_all_as_it_is()
    {
        var stub = host.File("stub-qemu");
        await File.WriteAllTextAsync(stub, """
            #!/bin/sh
            echo "pid $$"; printf 'arg %s\n' "$@"; readlink /proc/self/fd/7; grep -E '^Sig(Blk|Ign)' /proc/self/status; echo "parent $PPID"
            exit 42
            """);
        File.SetUnixFileMode(stub, (UnixFileMode)0b111_101_101);
        host.Configure(("Qemu", stub));
        try
        {
            Task<ProgramResult> StartAsync(string program) => host.TryAsync("bash", "-c", $"""
                exec 7</etc/passwd; {program} -machine none,accel=tcg -S -qmp unix:/tmp/a,server=on -daemonize 'two words' '' & wait $!; status=$?; echo "child $!"; exit $status
                """);
            var lines = (await StartAsync(LibvirtHost.Emulator)).Expect(42).Output.Split('\n');
            Assert.Equal(lines.Single(l => l.StartsWith("child ", StringComparison.Ordinal))[6..], lines[0][4..]);
            Assert.Equal(["-machine", "none,accel=tcg", "-S", "-qmp", "unix:/tmp/a,server=on", "-daemonize", "two words", ""], lines.Where(l => l.StartsWith("arg ", StringComparison.Ordinal)).Select(l => l[4..]));
            Assert.Contains("/etc/passwd", lines);

            // What is ignored or blocked in programs started here by others is not the launcher's doing.
            var direct = (await StartAsync(stub)).Expect(42).Output.Split('\n');
            foreach (var signals in (string[])["SigBlk:", "SigIgn:"])
                Assert.Equal(0, Mask(lines, signals) & ~Mask(direct, signals));
        }
        finally
        {
            host.Configure();
        }
    }

    private static long Mask(string[] status, string name) =>
        long.Parse(status.Single(l => l.StartsWith(name, StringComparison.Ordinal))[name.Length..].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    [Fact]
    public async Task A_domain_starts_under_the_number_that_libvirt_knows_and_paused_where_it_asks_for_that()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "paused");
        await domain.VirshAsync("start", "--paused");
        Assert.Equal("paused", await domain.StateAsync());
        var vmm = await domain.VmmAsync();
        var wrapper = await domain.PidAsync();
        Assert.NotEqual(wrapper, vmm.Pid);
        Assert.Contains("cprsharp", await host.RunAsync("readlink", $"/proc/{wrapper}/exe"));
        Assert.Equal($"PPid:\t{wrapper}", await host.RunAsync("grep", "^PPid", $"/proc/{vmm.Pid}/status"));

        // As unprivileged as libvirt starts its QEMU.
        Assert.Equal("Uid:\t64055\t64055\t64055\t64055", await host.RunAsync("grep", "^Uid", $"/proc/{vmm.Pid}/status"));
        Assert.Equal("CapEff:\t0000000000000000", await host.RunAsync("grep", "^CapEff", $"/proc/{wrapper}/status"));
        Assert.Equal("prelaunch", (await domain.QmpAsync("""{"execute":"query-status"}""")).GetProperty("status").GetString());
        Assert.DoesNotContain("CPRSHARP", domain.Log.Text());
        await domain.VirshAsync("resume");
        await domain.Log.ReadyAsync(hasDisk: false);
    }

    [Fact]
    public async Task A_domain_that_cannot_start_says_why_and_leaves_nothing()
    {
        host.Configure(("Qemu", "/usr/bin/no-such-qemu"));
        try
        {
            // The capabilities are known from before, so that the start itself meets what is missing.
            host.Configure();
            await using var domain = await Domain.DefineAsync(host, "broken");
            host.Configure(("Qemu", "/usr/bin/no-such-qemu"));
            var failed = (await host.TryAsync("virsh", "start", "broken")).Expect(1);
            Assert.Contains("/usr/bin/no-such-qemu does not exist", failed.Errors);
            Assert.Equal("shut off", await domain.StateAsync());
            Assert.DoesNotContain("broken", await host.RunAsync("ls", "/run/cprsharp"));
        }
        finally
        {
            host.Configure();
        }
    }

    /// <summary>libvirt expects of its emulator that the guest ends with it, so nobody takes over.</summary>
    [Fact]
    public async Task A_killed_wrapper_takes_the_guest_with_it_after_an_update_too()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "killed");
        foreach (var updates in (int[])[0, 1])
        {
            await domain.StartAsync();
            for (var i = 0; i < updates; i++)
                await domain.UpdateAsync(Components.Qemu111);
            Assert.Equal(2, (await host.ProcessesAsync("guest=killed")).Length);
            await host.RunAsync("kill", "-KILL", $"{await domain.PidAsync()}");
            await ExpectEndAsync(domain, "crashed");
        }
    }

    [Fact]
    public async Task A_wrapper_that_is_killed_in_the_pause_takes_both_QEMUs_with_it()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "inpause");
        await domain.StartAsync();
        using var update = domain.StartUpdate(Components.Qemu111, "commit.begin:kill");
        await ExpectEndAsync(domain, "crashed");
        Assert.NotEqual(0, (await update.ResultAsync()).ExitCode);

        // Its name is free again.
        await domain.StartAsync();
    }

    [Fact]
    public async Task Destroy_and_shutdown_end_it_as_they_end_QEMU()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "ended");
        await domain.StartAsync();
        await domain.UpdateAsync(Components.Qemu111);
        await domain.VirshAsync("destroy");
        await ExpectEndAsync(domain, "destroyed");

        await domain.StartAsync();
        await domain.UpdateAsync(Components.Qemu111);
        await domain.QmpAsync("""{"execute":"quit"}""");
        await ExpectEndAsync(domain, "shutdown");
        Assert.DoesNotContain("ended", await host.RunAsync("ls", "/run/cprsharp"));
    }

    private async Task ExpectEndAsync(Domain domain, string reason)
    {
        await Deadlines.EventuallyAsync(async () => await domain.VirshAsync("domstate", "--reason") is var state && state == $"shut off ({reason})" ? null : $"the domain is {state}");
        await Deadlines.EventuallyAsync(async () => (await host.ProcessesAsync($"guest={domain.Name}")) is { Length: > 0 } left ? $"left: {string.Join(' ', left)}" : null);
    }
}
