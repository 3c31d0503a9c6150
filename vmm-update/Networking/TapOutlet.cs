using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Networking;

/// <summary>Writes frames to tap devices, and counts those that they do not take.</summary>
/// <remarks>A device with a limit (<c>sndbuf=</c>) refuses frames while its network is slow. The guest's own VMM would wait then, and so is waited here, as long as the guest runs.</remarks>
internal sealed class TapOutlet : IDisposable
{
    /// <summary>How long, in milliseconds, all that is left may take when the guest stands still.</summary>
    private const int LongestHurry = 1000;

    private readonly PollSet _room = new();
    private long _until = long.MaxValue;

    /// <summary>Frames that were given up.</summary>
    public long Refused { get; private set; }

    /// <summary>From here on the guest waits for what is still to be sent. From any thread.</summary>
    public void Hurry()
    {
        Interlocked.CompareExchange(ref _until, Environment.TickCount64 + LongestHurry, long.MaxValue);
        _room.Wake();
    }

    /// <summary>Writes a frame, when there is room for it.</summary>
    /// <param name="queue">In non-blocking mode.</param>
    /// <param name="frame">The frame.</param>
    /// <exception cref="SyscallException">write: EIO (the device is down) and others.</exception>
    public void Send(SafeHandle queue, ReadOnlySpan<byte> frame)
    {
        while (NonBlocking.Write(queue, frame) == NonBlocking.WouldBlock)
        {
            var until = Volatile.Read(ref _until);
            var left = until == long.MaxValue ? -1 : (int)Math.Max(0, until - Environment.TickCount64);
            if (left == 0)
            {
                Refused++;
                return;
            }

            _room.Clear();
            _room.Add(queue, Readiness.Writable);
            _room.Wait(left);
        }
    }

    public void Dispose() => _room.Dispose();
}
