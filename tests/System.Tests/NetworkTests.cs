using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>A guest on a tap device: nobody who talks to it notices more of an update than its pause.</summary>
public sealed class NetworkTests(ITestOutputHelper output)
{
    private const string GuestAddress = "10.77.0.2";

    [Theory]
    [InlineData("")]
    [InlineData(",queues=2")]
    public async Task PingsAndConnectionsSurviveManyUpdates(string queues)
    {
        await using var host = new TestHost();
        await using var network = await NetworkNamespace.CreateAsync($"cprst-{Guid.NewGuid():N}"[..14]);
        var guest = new LinuxGuest(host);
        var up = host.Script("up", $"ip addr add 10.77.0.1/24 dev \"$1\" && ip link set \"$1\" up && echo up \"$1\" >> {host.File("scripts")}");
        var down = host.Script("down", $"echo down \"$1\" >> {host.File("scripts")}");
        var vm = new TestVm(host, "tap");
        using (var run = host.StartProgram("ip", null, null, network.Inside(
        [
            Components.CprSharp, "run", "--name", "tap", "--detach", "--", Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-smp", "2",
            "-device", "virtio-blk-pci,drive=disk", "-device", $"virtio-net-pci,netdev=net{(queues.Length > 0 ? ",mq=on,vectors=6" : "")}",
            "-netdev", $"tap,id=net,ifname=guest0,script={up},downscript={down}{queues}",
        ])))
            (await run.ResultAsync()).Expect(0);
        await guest.ReadyAsync();
        Assert.DoesNotContain("failed", await guest.AskAsync($"net {GuestAddress}/24", "net"), StringComparison.Ordinal);
        using var check = host.Start(null, ["check", "tap", "--to", Components.Qemu111, "--json"]);
        Documents.ExpectCheckReport((await check.ResultAsync()).Expect(0).Document, "tap", "ready");

        await using var pings = new PingFlood(network, GuestAddress);
        await using var tcp = new EchoStream("tcp", network.Connect(GuestAddress, 7), 64 << 10);
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
}
