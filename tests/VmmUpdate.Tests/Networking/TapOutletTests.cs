using CprSharp.Memfd;
using CprSharp.VmmUpdate.Networking;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Networking;

/// <summary>No frame is dropped while the guest runs, and none without being counted when it waits.</summary>
public sealed class TapOutletTests
{
    private const int FrameLength = 1500;

    [Fact]
    public async Task WhileTheGuestRunsItWaitsForRoom()
    {
        var (near, far) = UnixSocket.Pair(System.Net.Sockets.SocketType.Dgram);
        using (near)
        using (far)
        using (var outlet = new TapOutlet())
        {
            near.Blocking = false;
            var filled = Fill(near);
            var sending = Task.Run(() => outlet.Send(near.SafeHandle, new byte[FrameLength]));
            var got = 0;
            var buffer = new byte[2 * FrameLength];
            Assert.False(sending.IsCompleted);
            for (; got <= filled; got++)
                Assert.Equal(FrameLength, await far.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(20)));
            await sending.WaitAsync(TimeSpan.FromSeconds(20));
            Assert.Equal(0, outlet.Refused);
        }
    }

    [Fact]
    public async Task WhenItWaitsForUsWhatIsRefusedIsCounted()
    {
        var (near, far) = UnixSocket.Pair(System.Net.Sockets.SocketType.Dgram);
        using (near)
        using (far)
        using (var outlet = new TapOutlet())
        {
            near.Blocking = false;
            Fill(near);
            var sending = Task.Run(() =>
            {
                for (var i = 0; i < 100; i++)
                    outlet.Send(near.SafeHandle, new byte[FrameLength]);
            });
            outlet.Hurry();
            await sending.WaitAsync(TimeSpan.FromSeconds(20)); // not a second for each
            Assert.Equal(100, outlet.Refused);
        }
    }

    private static int Fill(System.Net.Sockets.Socket socket)
    {
        var frame = new byte[FrameLength];
        for (var count = 0; ; count++)
        {
            if (NonBlocking.Write(socket.SafeHandle, frame) == NonBlocking.WouldBlock)
                return count;
        }
    }
}
