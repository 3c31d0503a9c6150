using System.Net.Sockets;

namespace CprSharp.SystemTests.Harness;

/// <summary>A Linux guest on a tap device, in a network namespace of its own.</summary>
internal static class TapVm
{
    public const string GuestAddress = "10.77.0.2";

    /// <summary>Starts it, and gives both ends their addresses. The tap's scripts write "up" and "down" with its name to the host's file "scripts".</summary>
    /// <param name="host">Where it runs.</param>
    /// <param name="network">The namespace of the supervisor and its VMMs.</param>
    /// <param name="guest">The guest.</param>
    /// <param name="queues">Pairs of queues.</param>
    public static async Task<TestVm> StartAsync(TestHost host, NetworkNamespace network, LinuxGuest guest, int queues)
    {
        var up = host.Script("up", $"ip addr add 10.77.0.1/24 dev \"$1\" && ip link set \"$1\" up && echo up \"$1\" >> {host.File("scripts")}");
        var down = host.Script("down", $"echo down \"$1\" >> {host.File("scripts")}");
        var (device, netdev) = queues > 1 ? ($",mq=on,vectors={2 * queues + 2}", $",queues={queues}") : ("", "");
        using (var run = host.StartProgram("ip", null, null, network.Inside(
        [
            Components.CprSharp, "run", "--name", "tap", "--detach", "--", Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-smp", "2",
            "-device", "virtio-blk-pci,drive=disk", "-device", $"virtio-net-pci,netdev=net{device}",
            "-netdev", $"tap,id=net,ifname=guest0,script={up},downscript={down}{netdev}",
        ])))
            (await run.ResultAsync()).Expect(0);
        await guest.ReadyAsync();
        Assert.DoesNotContain("failed", await guest.AskAsync($"net {GuestAddress}/24", "net"), StringComparison.Ordinal);
        return new TestVm(host, "tap");
    }

    /// <summary>Connects to the guest's echo server as soon as it is there.</summary>
    public static async Task<Socket> ConnectAsync(NetworkNamespace network)
    {
        Socket? connected = null;
        await Deadlines.EventuallyAsync(() =>
        {
            try
            {
                connected = network.Connect(GuestAddress, 7);
                return null;
            }
            catch (IOException e)
            {
                return e.Message;
            }
        });
        return connected!;
    }
}
