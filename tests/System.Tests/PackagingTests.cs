using System.Net.Sockets;
using System.Text;
using System.Threading.Channels;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>The Debian package and what systemd is told.</summary>
public sealed class PackagingTests
{
    [Fact]
    public async Task ThePackageHoldsWhatItShouldAndStopsNothing()
    {
        await using var host = new TestHost();
        var built = (await RunAsync(Components.OfRepository("packaging/build-deb"), "--program", Components.CprSharp, host.Root)).Expect(0).Output.Trim();
        Assert.Equal($"{host.Root}/cprsharp_0.1.0_amd64.deb", built);

        var content = (await RunAsync("/usr/bin/dpkg-deb", "--contents", built)).Expect(0).Output;
        foreach (var file in new[]
        {
            "./usr/bin/cprsharp", "./usr/share/man/man1/cprsharp.1.gz", "./usr/share/bash-completion/completions/cprsharp", "./etc/cprsharp/cprsharp.json", "./etc/cprsharp/vm/",
            "./usr/lib/systemd/system/cprsharp@.service", "./usr/lib/systemd/system/cprsharp-metrics.timer", "./usr/lib/sysusers.d/cprsharp.conf", "./usr/lib/tmpfiles.d/cprsharp.conf",
        })
            Assert.Contains($" {file}\n", content, StringComparison.Ordinal);
        Assert.DoesNotContain(content.Split('\n', StringSplitOptions.RemoveEmptyEntries), l => !l.Contains("root/root", StringComparison.Ordinal));

        // Nothing that runs at an upgrade or a removal stops or restarts a unit.
        var control = host.File("control");
        (await RunAsync("/usr/bin/dpkg-deb", "--control", built, control)).Expect(0);
        Assert.Equal(["conffiles", "control", "md5sums", "postinst"], Directory.GetFiles(control).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.DoesNotMatch("systemctl (stop|restart|try-restart|kill)|invoke-rc.d|deb-systemd-invoke", await File.ReadAllTextAsync(Path.Combine(control, "postinst")));

        var unpacked = host.File("unpacked");
        (await RunAsync("/usr/bin/dpkg-deb", "--extract", built, unpacked)).Expect(0);
        Assert.Contains("KillMode=process", await File.ReadAllTextAsync(Path.Combine(unpacked, "usr/lib/systemd/system/cprsharp@.service")), StringComparison.Ordinal);
        foreach (var unit in new[] { "cprsharp@web1.service", "cprsharp-metrics.service", "cprsharp-metrics.timer" })
        {
            var verified = (await RunAsync("/usr/bin/systemd-analyze", "verify", "--man=no", "--recursive-errors=no", $"--root={unpacked}", unit)).Expect(0);
            Assert.DoesNotContain("cprsharp", verified.Errors, StringComparison.Ordinal);
        }

        // The settings that come with it are settings.
        var settings = await File.ReadAllTextAsync(Path.Combine(unpacked, "etc/cprsharp/cprsharp.json"));
        Assert.Contains("\"Security\"", settings, StringComparison.Ordinal);

        Task<ProgramResult> RunAsync(string program, params string[] arguments)
        {
            var running = host.StartProgram(program, null, null, arguments);
            host.OnDispose(() =>
            {
                running.Dispose();
                return Task.CompletedTask;
            });
            return running.ResultAsync();
        }
    }

    [Fact]
    public async Task SystemdLearnsOfEverythingAndIsToldThatWeLive()
    {
        await using var host = new TestHost();
        var manager = host.File("notify");
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(manager));
        var messages = Channel.CreateUnbounded<string>();
        using var enough = new CancellationTokenSource();
        var reading = ReadAsync();
        using var run = host.Start(
            new Dictionary<string, string>(StringComparer.Ordinal) { ["NOTIFY_SOCKET"] = manager, ["WATCHDOG_USEC"] = "500000" },
            ["run", "--name", "unit", "--", Components.Qemu111, .. TestVm.Bare]);
        var vm = new TestVm(host, "unit");
        Assert.Contains($"MAINPID={run.Pid}", await UntilAsync("READY=1"), StringComparison.Ordinal);
        await UntilAsync("WATCHDOG=1");
        await UntilAsync("WATCHDOG=1");
        await vm.UpdateAsync(Components.Qemu111);
        await UntilAsync("update: prepare");
        await UntilAsync("last update updated");
        (await host.CprSharpAsync("reexec", vm.Name)).Expect(0);
        Assert.Contains($"MAINPID={run.Pid}", await UntilAsync("READY=1"), StringComparison.Ordinal);
        await UntilAsync("WATCHDOG=1");

        // A manager that has stopped reading holds up nothing.
        await enough.CancelAsync();
        await reading;
        await vm.UpdateAsync(Components.Qemu111);
        run.Signal(15);
        (await run.ResultAsync()).Expect(0);
        await host.ExpectNothingLeftAsync();

        async Task<string> UntilAsync(string wanted)
        {
            while (true)
            {
                var text = await messages.Reader.ReadAsync().AsTask().WaitAsync(Deadlines.Settle);
                if (text.Contains(wanted, StringComparison.Ordinal))
                    return text;
            }
        }

        async Task ReadAsync()
        {
            var buffer = new byte[4096];
            try
            {
                while (true)
                    messages.Writer.TryWrite(Encoding.UTF8.GetString(buffer, 0, await socket.ReceiveAsync(buffer, enough.Token)));
            }
            catch (OperationCanceledException)
            {
                // Enough.
            }
        }
    }
}
