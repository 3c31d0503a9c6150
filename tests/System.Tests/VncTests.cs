using System.Net.Sockets;
using System.Text;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>VNC's viewers are disconnected by an update, and can connect again at once: nobody is ever refused.</summary>
public sealed class VncTests
{
    private static readonly byte[] One = [1];

    /// <summary>FramebufferUpdateRequest, whatever has changed or not.</summary>
    private static readonly byte[] PixelRequest = [3, 0, 0, 0, 0, 0, 0, 1, 0, 1];

    [Theory]
    [InlineData("tcp")]
    [InlineData("unix")]
    public async Task AViewerConnectsAgainAtOnce(string kind)
    {
        await using var host = new TestHost();
        var display = Endpoint.FreeDisplay();
        var place = kind == "tcp" ? Endpoint.Vnc(display) : Endpoint.VncUnix(host.File("vnc"));
        var vm = await TestVm.StartAsync(host, "vnc",
            [Components.Qemu111, .. TestVm.Bare, "-device", "VGA", "-vnc", kind == "tcp" ? $"127.0.0.1:{display}" : $"unix:{host.File("vnc")}"]);
        await vm.UpdateAsync(Components.Qemu111);
        var descriptors = vm.SupervisorDescriptors();
        var viewer = await ViewAsync(place);
        foreach (var (to, engine) in new[] { (Components.Qemu111, "transfer"), (Components.Qemu100, "shared-ram"), (Components.Qemu111, "shared-ram"), (Components.Qemu111, "exec") })
        {
            await vm.UpdateAsync(to, engine, exitCode: 1, fault: "prepare.verified");
            await ExpectPictureAsync(viewer);

            // As soon as it sees that the connection has ended, and thus in the middle of the update.
            var again = Task.Run(async () =>
            {
                await ExpectEndAsync(viewer);
                return await ViewAsync(place);
            });
            await vm.UpdateAsync(to, engine);
            viewer.Dispose();
            viewer = await again.WaitAsync(Deadlines.Settle);
            await ExpectPictureAsync(viewer);
        }

        viewer.Dispose();
        await vm.ExpectOneRunningVmmAsync();
        await vm.ExpectNoMoreDescriptorsAsync(descriptors);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Connects, and shakes hands (RFC 6143, 7.1 to 7.3).</summary>
    private static async Task<Socket> ViewAsync(Endpoint place)
    {
        var socket = place.Connect();
        Assert.Equal("RFB 003.008\n", Encoding.ASCII.GetString(await ReadAsync(socket, 12)));
        await socket.SendAsync("RFB 003.008\n"u8.ToArray());
        var kinds = await ReadAsync(socket, (await ReadAsync(socket, 1))[0]);
        Assert.Contains((byte)1, kinds);
        await socket.SendAsync(One); // no authentication
        Assert.Equal(new byte[4], await ReadAsync(socket, 4));
        await socket.SendAsync(One); // shared
        var init = await ReadAsync(socket, 24);
        await ReadAsync(socket, init[23]); // the name; no VM's is longer than a byte can say
        return socket;
    }

    private static async Task ExpectPictureAsync(Socket viewer)
    {
        await viewer.SendAsync(PixelRequest);
        var update = await ReadAsync(viewer, 4 + 12);
        Assert.Equal(0, update[0]);
        await ReadAsync(viewer, 4); // raw, 32 bits
    }

    private static async Task ExpectEndAsync(Socket viewer)
    {
        try
        {
            var rest = new byte[4096];
            int count;
            do
                count = await viewer.ReceiveAsync(rest).WaitAsync(Deadlines.Program);
            while (count > 0);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            // What it had sent and nobody read.
        }
    }

    private static async Task<byte[]> ReadAsync(Socket socket, int length)
    {
        var bytes = new byte[length];
        for (var have = 0; have < length;)
        {
            var count = await socket.ReceiveAsync(bytes.AsMemory(have)).AsTask().WaitAsync(Deadlines.Settle);
            Assert.True(count > 0, $"closed after {have} of {length} bytes");
            have += count;
        }

        return bytes;
    }
}
