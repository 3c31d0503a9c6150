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
    private const int SO_PEERGROUPS = 59;

    /// <summary>NGROUPS_MAX (linux/limits.h).</summary>
    private const int MaxGroups = 65536;

    private readonly uint[]? _groups;

    /// <summary>Its supplementary groups (SO_PEERGROUPS). Not looked at when credentials are compared.</summary>
    public IReadOnlyList<uint> Groups
    {
        get => _groups ?? [];
        init => _groups = [.. value];
    }

    /// <inheritdoc/>
    public bool Equals(QmpPeerCredentials other) => (ProcessId, UserId, GroupId) == (other.ProcessId, other.UserId, other.GroupId);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ProcessId, UserId, GroupId);

    /// <summary>Asks the kernel; null for a socket that is not AF_UNIX.</summary>
    internal static QmpPeerCredentials? Of(Socket socket)
    {
        if (socket.AddressFamily != AddressFamily.Unix) return null;
        Span<int> credentials = stackalloc int[3];
        socket.GetRawSocketOption(SOL_SOCKET, SO_PEERCRED, MemoryMarshal.AsBytes(credentials));
        return new QmpPeerCredentials(credentials[0], (uint)credentials[1], (uint)credentials[2]) { Groups = GroupsOf(socket) };
    }

    private static uint[] GroupsOf(Socket socket)
    {
        // Few have more; who does is asked again with all the room there can be need of.
        foreach (var room in new[] { 64, MaxGroups })
        {
            var groups = new uint[room];
            try
            {
                var bytes = socket.GetRawSocketOption(SOL_SOCKET, SO_PEERGROUPS, MemoryMarshal.AsBytes(groups.AsSpan()));
                return groups[..(bytes / sizeof(uint))];
            }
            catch (SocketException) when (room < MaxGroups)
            {
                // ERANGE.
            }
            catch (SocketException)
            {
                // A kernel before 4.13, or a connected pair without a peer's credentials.
            }
        }

        return [];
    }
}
