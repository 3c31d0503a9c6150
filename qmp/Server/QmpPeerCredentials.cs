using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace CprSharp.Qmp;

/// <summary>Who connected, as the kernel recorded it at connect(2) (SO_PEERCRED, unix(7)), seen from this process's namespaces.</summary>
/// <param name="ProcessId">The process; it may have ended since. 0 when it lies outside this PID namespace.</param>
/// <param name="UserId">Its effective user.</param>
/// <param name="GroupId">Its effective group.</param>
public readonly record struct QmpPeerCredentials(int ProcessId, uint UserId, uint GroupId)
{
    private const int SOL_SOCKET = 1;
    private const int SO_PEERCRED = 17;

    /// <summary>Asks the kernel; null for a socket that is not AF_UNIX.</summary>
    internal static QmpPeerCredentials? Of(Socket socket)
    {
        if (socket.AddressFamily != AddressFamily.Unix) return null;
        Span<int> credentials = stackalloc int[3];
        socket.GetRawSocketOption(SOL_SOCKET, SO_PEERCRED, MemoryMarshal.AsBytes(credentials));
        return new QmpPeerCredentials(credentials[0], (uint)credentials[1], (uint)credentials[2]);
    }
}
