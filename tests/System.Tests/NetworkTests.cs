using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>A guest on a tap device: nobody who talks to it notices more of an update than its pause.</summary>
public sealed class NetworkTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task PingsAndConnectionsSurviveManyUpdates(int queues)
    {
        await using var host = new TestHost();
        await using var network = await NetworkNamespace.CreateAsync($"cprst-{Guid.NewGuid():N}"[..14]);
        var guest = new LinuxGuest(host);
        var vm = await TapVm.StartAsync(host, network, guest, queues);
        using var check = host.Start(null, ["check", "tap", "--to", Components.Qemu111, "--json"]);
        Documents.ExpectCheckReport((await check.ResultAsync()).Expect(0).Document, "tap", "ready");

        await using var pings = new PingFlood(network, TapVm.GuestAddress);
        await using var tcp = new EchoStream("tcp", await TapVm.ConnectAsync(network), 64 << 10);
        var longestPause = 0.0;
        foreach (var step in UpdateSchedule.Of("commit.begin", "prepare.verified"))
        {
            await tcp.ExpectMoreAsync(64 << 10);
            longestPause = Math.Max(longestPause, await step.RunAsync(vm) ?? 0);
        }

        await tcp.ExpectMoreAsync(64 << 10);
        var (sent, answered) = await pings.StopAsync();
        output.WriteLine($"{UpdateSchedule.Length} updates, longest pause {longestPause:0.0} ms; {sent} pings, {sent - answered} lost, slowest answer {pings.Longest:0} ms; {tcp.Received >> 10} KiB there and back on one connection");

        // TCP's bytes, which are sent again, are compared to the last.
        Assert.Equal(0, sent - answered);
        await tcp.ExpectAllBackAsync();
        await vm.ExpectOneRunningVmmAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
        Assert.Equal("up guest0\ndown guest0\n", await File.ReadAllTextAsync(host.File("scripts")));
    }

    /// <summary>Whoever takes the VM over gives its tap to the VMM that goes on, wherever it was.</summary>
    [Fact]
    public async Task TheNetworkOutlivesASupervisorThatIsKilledInAnUpdate()
    {
        await using var host = new TestHost();
        await using var network = await NetworkNamespace.CreateAsync($"cprst-{Guid.NewGuid():N}"[..14]);
        var guest = new LinuxGuest(host);
        var vm = await TapVm.StartAsync(host, network, guest, queues: 2);
        await using var tcp = new EchoStream("tcp", await TapVm.ConnectAsync(network), 64 << 10);
        foreach (var (point, engine) in new[] { ("transfer.begin", "transfer"), ("transfer.end", "shared-ram"), ("commit.begin", "transfer"), ("rollback.end", "shared-ram"), ("commit.end", "transfer") })
        {
            await tcp.ExpectMoreAsync(64 << 10);
            var supervisor = vm.SupervisorPid;
            using (var update = vm.StartUpdate(Components.Qemu111, engine, point == "rollback.end" ? $"commit.begin:error,{point}:kill" : $"{point}:kill"))
                await update.ResultAsync();
            await Deadlines.EventuallyAsync(() => vm.SupervisorPid == supervisor ? $"nobody took the VM over after {point}\n{vm.Logs()}" : null);
            (await host.CprSharpAsync("adopt", vm.Name)).Expect(0);
            await vm.ExpectOneRunningVmmAsync();
            await tcp.ExpectMoreAsync(64 << 10);
            await vm.UpdateAsync(Components.Qemu111, engine);
        }

        await tcp.ExpectMoreAsync(64 << 10);
        await tcp.ExpectAllBackAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
    }
}
