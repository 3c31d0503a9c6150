using System.Net.Sockets;
using System.Text;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>AF_UNIX sockets by path, of any length, and a way to bind that a dying VMM cannot undo.</summary>
public static class UnixSocket
{
    /// <summary>sun_path has 108 bytes, one of them for the NUL.</summary>
    private const int MaxPathBytes = 107;

    /// <summary>
    /// Listens at a path. The socket is bound under a temporary name, made to listen, and renamed into place: connects never see
    /// a name without a listener, an older listener's name is replaced atomically, and whoever unlinks the bound name at exit
    /// (QEMU does) misses the public one. Closing the socket leaves the name: unlinking is the caller's.
    /// </summary>
    /// <param name="path">Of any length; its directory must exist.</param>
    /// <param name="backlog">Connections that may wait to be accepted.</param>
    /// <param name="mode">Permissions of the name, set before anybody can connect.</param>
    /// <exception cref="SyscallException">open, bind, listen, chmod or rename failed; the message names the path.</exception>
    public static Socket Listen(string path, int backlog = 16, UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite)
    {
        var (directory, name) = Split(path);
        using var parent = LibC.Open(directory, LibC.O_PATH | LibC.O_DIRECTORY);
        var temporary = Path.Combine(directory, $".{Guid.NewGuid():N}");
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            Try("bind", path, () => socket.Bind(new UnixDomainSocketEndPoint(Reachable(temporary, parent))));
            File.SetUnixFileMode(temporary, mode);
            Try("listen", path, () => socket.Listen(backlog));
            if (LibC.rename(temporary, Path.Combine(directory, name)) != 0)
                throw SyscallException.FromLastError("rename", $"{temporary} to {path}");
            return socket;
        }
        catch
        {
            socket.Dispose();
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Connects to a stream socket; waits while the listener's backlog is full.</summary>
    /// <exception cref="SyscallException">connect: ENOENT, ECONNREFUSED (nobody listens), EACCES.</exception>
    public static Socket Connect(string path)
    {
        var (directory, _) = Split(path);
        using var parent = LibC.Open(directory, LibC.O_PATH | LibC.O_DIRECTORY);
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            Try("connect", path, () => socket.Connect(new UnixDomainSocketEndPoint(Reachable(path, parent))));
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Two connected, close-on-exec sockets (socketpair(2)).</summary>
    /// <param name="type">Stream or seqpacket.</param>
    public static (Socket First, Socket Second) Pair(SocketType type = SocketType.Stream)
    {
        Span<int> pair = stackalloc int[2];
        if (LibC.socketpair(LibC.AF_UNIX, (int)type | LibC.SOCK_CLOEXEC, 0, pair) != 0)
            throw SyscallException.FromLastError("socketpair", type.ToString());
        return (Wrap(pair[0]), Wrap(pair[1]));
    }

    private static Socket Wrap(int descriptor) => new(new SafeSocketHandle(descriptor, ownsHandle: true));

    private static (string Directory, string Name) Split(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var full = Path.GetFullPath(path);
        return (Path.GetDirectoryName(full) ?? throw new ArgumentException($"{path} is a directory.", nameof(path)), Path.GetFileName(full));
    }

    /// <summary>The path itself where it fits sun_path, else the same file through a descriptor of its directory.</summary>
    private static string Reachable(string path, SafeFileHandle parent)
    {
        if (Encoding.UTF8.GetByteCount(path) <= MaxPathBytes)
            return path;
        var name = Path.GetFileName(path);
        var reachable = $"/proc/self/fd/{parent.DangerousGetHandle()}/{name}";
        return Encoding.UTF8.GetByteCount(reachable) <= MaxPathBytes
            ? reachable
            : throw new ArgumentException($"The socket's own name {name} is too long: a name has to fit sun_path ({MaxPathBytes} bytes) even when its directory does not.", nameof(path));
    }

    private static void Try(string syscall, string path, Action action)
    {
        try
        {
            action();
        }
        catch (SocketException e)
        {
            throw new SyscallException(syscall, path, e.NativeErrorCode);
        }
    }
}
