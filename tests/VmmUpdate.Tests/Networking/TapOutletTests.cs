using System.Net.Sockets;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Networking;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Networking;

/// <summary>No frame is dropped while the guest runs, and none without being counted when it waits.</summary>
public sealed class TapOutletTests : IDisposable
{
    private const int FrameLength = 1500;

    private readonly Socket _near;
    private readonly Socket _far;
    private readonly int _filled;
    private readonly TapOutlet _outlet = new();

    public TapOutletTests()
    {
        (_near, _far) = UnixSocket.Pair(SocketType.Dgram);
        _near.Blocking = false;
        _filled = Fill(_near);
    }

    [Fact]
    public async Task WhileTheGuestRunsItWaitsForRoom()
    {
        var sending = Task.Run(() => _outlet.Send(_near.SafeHandle, new byte[FrameLength]));
        var buffer = new byte[2 * FrameLength];
        Assert.False(sending.IsCompleted);
        for (var got = 0; got <= _filled; got++)
            Assert.Equal(FrameLength, await _far.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(20)));
        await sending.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.Equal(0, _outlet.Refused);
    }

    [Fact]
    public async Task WhenItWaitsForUsWhatIsRefusedIsCounted()
    {
        var sending = Task.Run(() =>
        {
            for (var i = 0; i < 100; i++)
                _outlet.Send(_near.SafeHandle, new byte[FrameLength]);
        });
        _outlet.Hurry();
        await sending.WaitAsync(TimeSpan.FromSeconds(20)); // not a second for each
        Assert.Equal(100, _outlet.Refused);
    }

    public void Dispose()
    {
        _outlet.Dispose();
        _near.Dispose();
        _far.Dispose();
    }

    private static int Fill(Socket socket)
    {
        var frame = new byte[FrameLength];
        for (var count = 0; ; count++)
        {
            if (NonBlocking.Write(socket.SafeHandle, frame) == NonBlocking.WouldBlock)
                return count;
        }
    }
}
