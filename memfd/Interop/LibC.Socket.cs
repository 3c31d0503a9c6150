using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace CprSharp.Memfd.Interop;

/// <summary>Called directly, because the framework's SocketException changes the error number (ENOENT becomes EADDRNOTAVAIL).</summary>
internal static partial class LibC
{
    internal const int AF_UNIX = 1;
    internal const int SOCK_CLOEXEC = 0x80000;
    internal const int SOL_SOCKET = 1;
    internal const int SO_PEERCRED = 17;
    internal const int SO_PEERPIDFD = 77;
    internal const int MSG_DONTWAIT = 0x40;
    internal const int MSG_NOSIGNAL = 0x4000;

    /// <summary>sun_path has 108 bytes, one of them for the NUL.</summary>
    internal const int MaxSocketPathBytes = 107;

    /// <summary>struct sockaddr_un: the family, then the path.</summary>
    internal static byte[] SocketAddress(string path)
    {
        var address = new byte[sizeof(ushort) + Encoding.UTF8.GetByteCount(path) + 1];
        MemoryMarshal.Write(address, (ushort)AF_UNIX);
        Encoding.UTF8.GetBytes(path, address.AsSpan(sizeof(ushort)));
        return address;
    }

    internal static SafeSocketHandle UnixStreamSocket()
    {
        var result = socket(AF_UNIX, (int)SocketType.Stream | SOCK_CLOEXEC, 0);
        return result < 0 ? throw SyscallException.FromLastError("socket", "AF_UNIX") : new SafeSocketHandle(result, ownsHandle: true);
    }

    /// <summary>Reads an option that is a few ints.</summary>
    /// <returns>0, or the error number.</returns>
    internal static int GetSocketOption(SafeHandle socket, int option, Span<int> value)
    {
        var length = value.Length * sizeof(int);
        return getsockopt(socket, SOL_SOCKET, option, value, ref length) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socketpair(int domain, int type, int protocol, Span<int> pair);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int bind(SafeHandle socket, ReadOnlySpan<byte> address, int length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int listen(SafeHandle socket, int backlog);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int connect(SafeHandle socket, ReadOnlySpan<byte> address, int length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recv(SafeHandle socket, Span<byte> buffer, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint send(SafeHandle socket, ReadOnlySpan<byte> bytes, nuint length, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socket(int domain, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getsockopt(SafeHandle socket, int level, int option, Span<int> value, ref int length);
}
