using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>libvirt's hook, called by libvirtd and by hand (libvirt's <c>docs/hooks.rst</c>).</summary>
public sealed class HookTests(LibvirtHost host)
{
    private const string Hook = "/etc/libvirt/hooks/qemu.d/cprsharp";

    /// <summary>All but <c>prepare</c> that the document knows, and one that it does not.</summary>
    private static readonly (string Operation, string Stage, string Extra)[] Operations =
    [
        ("start", "begin", "-"),
        ("started", "begin", "-"),
        ("stopped", "end", "-"),
        ("release", "end", "unknown"),
        ("release", "end", "shutdown"),
        ("release", "end", "destroyed"),
        ("release", "end", "crashed"),
        ("release", "end", "migrated"),
        ("release", "end", "saved"),
        ("release", "end", "failed"),
        ("release", "end", "from snapshot"),
        ("release", "end", "daemon"),
        ("migrate", "begin", "-"),
        ("restore", "begin", "-"),
        ("reconnect", "begin", "-"),
        ("attach", "begin", "-"),
        ("of-a-later-libvirt", "begin", "-"),
    ];

    private static readonly (string Operation, string Stage, string Extra)[] EveryOperation = [("prepare", "begin", "-"), .. Operations];

    [Fact]
    public async Task By_policy_a_domain_that_could_not_be_updated_does_not_start_and_its_operator_reads_why()
    {
        await using var installed = await InstallAsync();
        await using var plain = await Domain.DefineAsync(host, "refused", new DomainOptions { Emulator = LibvirtHost.OwnQemu });
        await using var wrapped = await Domain.DefineAsync(host, "accepted");
        host.Configure(("HookPolicy", "refuse"));
        try
        {
            var failed = (await host.TryAsync("virsh", "start", "refused")).Expect(1);
            Assert.Contains("could not be live-updated", failed.Errors);
            Assert.Contains(LibvirtHost.Emulator, failed.Errors);
            Assert.Equal("shut off", await plain.StateAsync());

            // libvirt's every operation with one that could be: start, save, restore, reconnect, stop.
            await wrapped.StartAsync();
            await host.RestartLibvirtdAsync();
            await wrapped.VirshAsync("managedsave");
            await wrapped.VirshAsync("start");
            await wrapped.Log.GoesOnAsync();
            await wrapped.VirshAsync("destroy");

            // One that runs already is let be when libvirtd comes back.
            host.Configure();
            await plain.StartAsync();
            host.Configure(("HookPolicy", "refuse"));
            await host.RestartLibvirtdAsync();
            Assert.Equal("running", await plain.StateAsync());
            await plain.VirshAsync("managedsave");
        }
        finally
        {
            host.Configure();
        }
    }

    /// <summary>All that the document lists but <c>attach</c>, which no command of virsh's leads to any more.</summary>
    [Fact]
    public async Task Libvirtd_calls_it_for_every_operation_and_each_goes_on_at_both_ends_of_a_migration()
    {
        host.Configure(("HookPolicy", "refuse"));
        try
        {
            await using var there = await host.StartOtherAsync("three");
            await using var installedThere = await InstallAsync(there);
            await using var installed = await InstallAsync();
            var calls = host.File("hook.calls");
            await File.WriteAllTextAsync(host.File("recorder"), $"#!/bin/sh\necho \"$@\" >>{calls}\n");
            foreach (var end in (LibvirtHost[])[host, there])
                await end.RunAsync("install", host.File("recorder"), "/etc/libvirt/hooks/qemu.d/recorder");

            await using var domain = await Domain.DefineAsync(host, "hooked");
            await domain.StartAsync();
            await host.RestartLibvirtdAsync();
            await domain.VirshAsync("managedsave");
            await domain.VirshAsync("start");
            await domain.Log.GoesOnAsync();
            await domain.VirshAsync("migrate", "--live", "--desturi", there.ConnectUri, "--migrateuri", $"unix://{host.File("three")}/migration");
            await domain.Log.GoesOnAsync();
            Assert.Equal(0, domain.Log.Reports()[^1].MemoryErrors);
            await there.VirshAsync("destroy", "hooked");

            var called = (await File.ReadAllLinesAsync(calls)).Select(l => string.Join(' ', l.Split(' ')[..3])).ToHashSet(StringComparer.Ordinal);
            string[] expected = ["prepare begin", "start begin", "started begin", "stopped end", "release end", "migrate begin", "restore begin", "reconnect begin"];
            Assert.Empty(expected.Select(e => $"hooked {e}").Except(called));
        }
        finally
        {
            await host.RunAsync("rm", "-f", "/etc/libvirt/hooks/qemu.d/recorder");
            host.Configure();
        }
    }

    [Fact]
    public async Task What_a_killed_supervisor_has_left_goes_when_libvirt_releases_the_domain()
    {
        await using var installed = await InstallAsync();
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "released");
        await domain.StartAsync();
        await host.RunAsync("kill", "-KILL", $"{await domain.PidAsync()}");
        await Deadlines.EventuallyAsync(async () => (await host.RunAsync("ls", "/run/cprsharp")).Contains("released", StringComparison.Ordinal) ? "its directory is still there" : null);
    }

    [Fact]
    public async Task No_operation_but_prepare_fails_or_prints_whatever_the_domain_is()
    {
        host.Configure(("HookPolicy", "refuse"));
        await using var installed = await InstallForHandAsync();
        try
        {
            foreach (var (operation, stage, extra) in Operations)
            {
                foreach (var input in (string[])["echo '<domain type=\"xen\"><name>d</name></domain>'", "echo garbage", "true"])
                {
                    var result = (await host.TryAsync("sh", "-c", $"{input} | {Hook} 'a domain' {operation} {stage} '{extra}'")).Expect(0);
                    Assert.Equal("", result.Output);
                }
            }
        }
        finally
        {
            host.Configure();
        }
    }

    [Fact]
    public async Task Prepare_warns_or_refuses_by_policy_and_a_hook_that_cannot_decide_lets_the_domain_start()
    {
        await using var installed = await InstallForHandAsync();
        try
        {
            const string blocked = "echo '<domain type=\"kvm\"><name>d</name><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>'";
            host.Configure();
            var warned = (await host.TryAsync("sh", "-c", $"{blocked} | {Hook} d prepare begin -")).Expect(0);
            Assert.Contains("could not be live-updated", warned.Errors);
            Assert.Equal("", warned.Output);
            host.Configure(("HookPolicy", "refuse"));
            (await host.TryAsync("sh", "-c", $"{blocked} | {Hook} d prepare begin -")).Expect(1);
            (await host.TryAsync("sh", "-c", $"echo garbage | {Hook} d prepare begin -")).Expect(0);
            host.Configure(("HookPolicy", "nonsense"));
            (await host.TryAsync("sh", "-c", $"{blocked} | {Hook} d prepare begin -")).Expect(0);
            host.Configure(("HookPolicy", "refuse"));

            // Whoever never ends its input does not hold libvirt up for ever.
            (await host.TryAsync("sh", "-c", $"mkfifo /tmp/never; exec 8<>/tmp/never; {Hook} d prepare begin - </tmp/never")).Expect(0);
        }
        finally
        {
            host.Configure();
        }
    }

    /// <summary>libvirt calls it with a lock held, and for <c>reconnect</c> takes its failure for a reason to kill the guest.</summary>
    [Theory]
    [InlineData("<&-")] // no standard input at all
    [InlineData("</dev/null")]
    [InlineData("< <(head -c 100000 /dev/urandom)")]
    [InlineData("< <(head -c 20000000 /dev/zero | tr '\\0' 'a')")]
    [InlineData("< <(for ((i = 0; i < 200000; i++)); do printf '<domain>'; done)")]
    [InlineData("< <(while echo '<domain>'; do sleep 0.5; done)")]
    public async Task It_ends_and_lets_the_domain_be_whatever_comes_in(string input)
    {
        await using var installed = await InstallForHandAsync();
        host.Configure(("HookPolicy", "refuse"));
        try
        {
            var calls = EveryOperation.Select(o => $"'a domain' {o.Operation} {o.Stage} '{o.Extra}'").Concat(["", "d", "d ''"]);
            await ExpectNothingAsync(Hook, calls, input);
        }
        finally
        {
            host.Configure();
        }
    }

    /// <summary>Not even a broken program behind it can do harm.</summary>
    [Theory]
    [InlineData("trap '' TERM; while :; do sleep 1; done")]
    [InlineData("kill -SEGV $$")]
    [InlineData("echo '<domain/>'; exit 1")]
    public async Task A_program_that_hangs_crashes_or_babbles_lets_the_domain_be(string program)
    {
        await using var installed = await InstallForHandAsync();
        var stub = host.File("stub-cprsharp");
        await File.WriteAllTextAsync(stub, $"#!/bin/bash\n{program}\n");
        File.SetUnixFileMode(stub, (UnixFileMode)0b111_101_101);
        await ExpectNothingAsync($"unshare -m sh -c 'mount --bind {stub} /usr/local/bin/cprsharp && exec {Hook} \"$@\"' -", EveryOperation.Select(o => $"d {o.Operation} {o.Stage} '{o.Extra}'"), "</dev/null");
    }

    /// <summary>Calls it in each of these ways at the same time: none fails, and none prints what libvirt could take for a domain's XML.</summary>
    private async Task ExpectNothingAsync(string hook, IEnumerable<string> calls, string input)
    {
        var wrong = await host.TryAsync("bash", "-c", $$"""
            hook() { {{hook}} "$@"; }
            while read -r call; do
                (eval "set -- $call"; output=$(hook "$@" {{input}} 2>/dev/null) && [ -z "$output" ] || echo "$call: status $?, $output") &
            done <<'CALLS'
            {{string.Join('\n', calls)}}
            CALLS
            wait
            """);
        Assert.Equal("", wrong.Expect(0).Output);
    }

    /// <summary>As <c>make install</c> puts it; libvirtd looks for hooks when it starts.</summary>
    private async Task<Installed> InstallAsync(LibvirtHost? other = null)
    {
        var installed = await InstallForHandAsync(other);
        await installed.Host.RestartLibvirtdAsync();
        return installed with { IsKnown = true };
    }

    /// <summary>To be called by hand alone.</summary>
    private async Task<Installed> InstallForHandAsync(LibvirtHost? other = null)
    {
        var on = other ?? host;
        await on.RunAsync("install", "-D", host.File("hook"), Hook);
        return new Installed(on);
    }

    private sealed record Installed(LibvirtHost Host) : IAsyncDisposable
    {
        /// <summary>Whether libvirtd knows of it.</summary>
        public bool IsKnown { get; init; }

        public async ValueTask DisposeAsync()
        {
            await Host.RunAsync("rm", Hook);
            if (IsKnown)
                await Host.RestartLibvirtdAsync();
        }
    }
}
