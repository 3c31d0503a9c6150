using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>A privileged operator's process that sets threads of ours to real time when it is asked: see <see cref="Update.PauseBoost"/>.</summary>
/// <remarks>
/// One message, of numbers: how many processes there are, the processes, and the threads to leave as they are. The answer is one byte, not 0
/// when it is done. To take real time back needs no privilege, so we do; the lender does, too, when the socket closes, for whom we have left.
/// </remarks>
internal sealed class RealTimeLoan : IDisposable
{
    /// <summary>The longest message, in bytes.</summary>
    public const int Longest = 1 << 16;

    private const int LongestWaitMs = 500;

    private readonly Socket _lender;

    /// <param name="lender">A connected SOCK_SEQPACKET socket, owned from here on.</param>
    /// <exception cref="SocketException">It is no socket.</exception>
    public RealTimeLoan(SafeHandle lender)
    {
        var handle = new SafeSocketHandle(lender.DangerousGetHandle(), ownsHandle: true);
        lender.SetHandleAsInvalid();
        try
        {
            _lender = new Socket(handle) { SendTimeout = LongestWaitMs, ReceiveTimeout = LongestWaitMs };
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Whether the lender has set them; where it does not answer in time, it sets them back itself.</summary>
    public bool TryRaise(IReadOnlyCollection<int> processes, IReadOnlySet<int> except)
    {
        int[] message = [processes.Count, .. processes, .. except];
        if (message.Length * sizeof(int) > Longest)
            return false;
        try
        {
            var answer = new byte[1];
            _lender.Send(MemoryMarshal.AsBytes<int>(message));
            if (_lender.Receive(answer) == 1)
                return answer[0] != 0;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It has gone, or is too slow.
        }

        Dispose();
        return false;
    }

    public void Dispose() => _lender.Dispose();
}
