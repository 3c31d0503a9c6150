using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>AF_UNIX sockets by path, of any length, and a way to bind that a dying VMM cannot undo. All are close-on-exec.</summary>
public static class UnixSocket
{
    /// <summary>
    /// Listens at a path. The socket is bound under a temporary name, made to listen, and renamed into place: connects never see
    /// a name without a listener, an older listener's name is replaced atomically, and whoever unlinks the bound name at exit
    /// (QEMU does) misses the public one. Closing the socket leaves the name: unlinking is the caller's.
    /// </summary>
    /// <param name="path">Of any length; its directory must exist.</param>
    /// <param name="backlog">Connections that may wait to be accepted.</param>
    /// <param name="mode">Permissions of the name, set before anybody can connect.</param>
    /// <exception cref="SyscallException">open, bind, chmod, listen or rename failed; the message names the path.</exception>
    /// <exception cref="ArgumentException">The last part of the path alone is too long for a socket's address.</exception>
    public static Socket Listen(string path, int backlog = 16, UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite)
    {
        var (directory, name) = Split(path);
        using var parent = LibC.Open(directory, LibC.O_PATH | LibC.O_DIRECTORY);
        _ = Address(Path.Combine(directory, name), parent); // refuses here what nobody could connect to
        var temporary = Path.Combine(directory, $".{Guid.NewGuid():N}");
        var address = Address(temporary, parent);

        using var socket = new Pending(LibC.UnixStreamSocket());
        Check(LibC.bind(socket.Handle, address, address.Length), "bind", path);
        try
        {
            Check(LibC.chmod(temporary, (uint)mode), "chmod", temporary);
            Check(LibC.listen(socket.Handle, backlog), "listen", path);
            Check(LibC.rename(temporary, Path.Combine(directory, name)), "rename", $"{temporary} to {path}");
        }
        catch
        {
            _ = LibC.unlink(temporary);
            throw;
        }

        return socket.ToSocket();
    }

    /// <summary>Connects to a stream socket; waits while the listener's backlog is full.</summary>
    /// <exception cref="SyscallException">connect: ENOENT, ECONNREFUSED (nobody listens), EACCES; open: the directory.</exception>
    /// <exception cref="ArgumentException">The last part of the path alone is too long for a socket's address.</exception>
    public static Socket Connect(string path)
    {
        var (directory, _) = Split(path);
        using var parent = LibC.Open(directory, LibC.O_PATH | LibC.O_DIRECTORY);
        var address = Address(Path.GetFullPath(path), parent);
        using var socket = new Pending(LibC.UnixStreamSocket());
        while (LibC.connect(socket.Handle, address, address.Length) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw SyscallException.FromLastError("connect", path);
        }

        return socket.ToSocket();
    }

    /// <summary>Two connected sockets (socketpair(2)).</summary>
    /// <param name="type">Stream or seqpacket.</param>
    public static (Socket First, Socket Second) Pair(SocketType type = SocketType.Stream)
    {
        Span<int> pair = stackalloc int[2];
        Check(LibC.socketpair(LibC.AF_UNIX, (int)type | LibC.SOCK_CLOEXEC, 0, pair), "socketpair", type.ToString());
        using var first = new Pending(new SafeSocketHandle(pair[0], ownsHandle: true));
        using var second = new Pending(new SafeSocketHandle(pair[1], ownsHandle: true));
        return (first.ToSocket(), second.ToSocket());
    }

    private static (string Directory, string Name) Split(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var full = Path.GetFullPath(path);
        var name = Path.GetFileName(full);
        return name.Length > 0 ? (Path.GetDirectoryName(full)!, name) : throw new ArgumentException($"{path} is a directory.", nameof(path));
    }

    /// <summary>The path itself where it fits an address, else the same name through the descriptor of its directory.</summary>
    private static byte[] Address(string path, SafeFileHandle parent)
    {
        var reachable = Fits(path) ? path : $"/proc/self/fd/{parent.DangerousGetHandle()}/{Path.GetFileName(path)}";
        return Fits(reachable)
            ? LibC.SocketAddress(reachable)
            : throw new ArgumentException(
                $"The name {Path.GetFileName(path)} is too long for a socket; only its directory may be longer than {LibC.MaxSocketPathBytes} bytes.",
                nameof(path));
    }

    private static bool Fits(string path) => Encoding.UTF8.GetByteCount(path) <= LibC.MaxSocketPathBytes;

    private static void Check(int result, string syscall, string subject)
    {
        if (result != 0)
            throw SyscallException.FromLastError(syscall, subject);
    }

    /// <summary>Closes a descriptor that does not become a <see cref="Socket"/>.</summary>
    private sealed class Pending(SafeSocketHandle handle) : IDisposable
    {
        private bool _taken;

        internal SafeSocketHandle Handle => handle;

        public void Dispose()
        {
            if (!_taken)
                handle.Dispose();
        }

        internal Socket ToSocket()
        {
            var socket = new Socket(handle);
            _taken = true;
            return socket;
        }
    }
}
