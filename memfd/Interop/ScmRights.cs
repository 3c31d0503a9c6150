using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Interop;

/// <summary>
/// sendmsg(2) and recvmsg(2) with descriptors (unix(7)), never blocking. Depends on nothing but the framework, because two
/// assemblies compile this very file.
/// </summary>
internal static unsafe partial class ScmRights
{
    /// <summary>SCM_MAX_FD of the kernel: more in one message is EINVAL.</summary>
    internal const int MaxDescriptors = 253;

    // Room for credentials, a pidfd and a security label too, which the kernel adds where a socket option asks for them.
    internal const int DefaultControlBytes = 2048;

    private static int HeaderBytes => sizeof(LibC.cmsghdr_t);

    /// <summary>Sends without blocking and without SIGPIPE.</summary>
    /// <param name="socket">A connected AF_UNIX socket.</param>
    /// <param name="data">At least one byte: a stream socket silently drops descriptors that no byte carries.</param>
    /// <param name="fds">Up to <see cref="MaxDescriptors"/>; they stay the caller's.</param>
    /// <returns>
    /// Bytes sent, or -1 when the socket is full (EAGAIN): nothing was sent then. When some bytes went out, all descriptors did.
    /// </returns>
    /// <exception cref="SocketException">The kernel refused; the message names the errno.</exception>
    internal static int Send(SafeHandle socket, ReadOnlySpan<byte> data, ReadOnlySpan<SafeHandle> fds)
    {
        if (data.IsEmpty)
            throw new ArgumentException("Descriptors travel with data: at least one byte is needed.", nameof(data));
        return SendAny(socket, data, fds);
    }

    /// <summary>Sends a descriptor without data, which datagram sockets can: -1 when the reader has no room.</summary>
    internal static int SendAlone(SafeHandle socket, SafeHandle descriptor) => SendAny(socket, [], [descriptor]);

    private static int SendAny(SafeHandle socket, ReadOnlySpan<byte> data, ReadOnlySpan<SafeHandle> fds)
    {
        if (fds.Length > MaxDescriptors)
            throw new ArgumentException($"{fds.Length} descriptors in one message; the kernel takes up to {MaxDescriptors}.", nameof(fds));

        var referenced = 0;
        try
        {
            var control = stackalloc byte[Align(HeaderBytes + fds.Length * sizeof(int))];
            if (fds.Length > 0)
            {
                // cmsg_len is the unpadded length; an aligned one would send one descriptor more than meant.
                *(LibC.cmsghdr_t*)control = new LibC.cmsghdr_t
                {
                    cmsg_len = (nuint)(HeaderBytes + fds.Length * sizeof(int)),
                    cmsg_level = SOL_SOCKET,
                    cmsg_type = SCM_RIGHTS,
                };
                for (; referenced < fds.Length; referenced++)
                {
                    var added = false;
                    fds[referenced].DangerousAddRef(ref added);
                    ((int*)(control + HeaderBytes))[referenced] = (int)fds[referenced].DangerousGetHandle();
                }
            }

            return SendOnce(socket, data, control, fds.Length);
        }
        finally
        {
            for (var i = 0; i < referenced; i++)
                fds[i].DangerousRelease();
        }
    }

    /// <summary>Receives without blocking; every descriptor that arrives is close-on-exec.</summary>
    /// <param name="socket">A connected AF_UNIX socket.</param>
    /// <param name="data">Where the bytes go; not empty, because 0 bytes mean the end of the stream.</param>
    /// <param name="received">Every descriptor of the message is appended; the caller owns them, also when an exception follows.</param>
    /// <param name="controlTruncated">The kernel discarded descriptors (MSG_CTRUNC): RLIMIT_NOFILE was reached, or a security module refused.</param>
    /// <returns>Bytes received, 0 at the end of the stream, -1 when nothing is there (EAGAIN).</returns>
    /// <exception cref="SocketException">The kernel refused; the message names the errno.</exception>
    internal static int Receive(SafeHandle socket, Span<byte> data, List<SafeFileHandle> received, out bool controlTruncated) =>
        Receive(socket, data, received, DefaultControlBytes, out controlTruncated, out _);

    /// <summary>As above, with a chosen room for control messages, and telling whether a packet was longer than <paramref name="data"/>.</summary>
    internal static int Receive(
        SafeHandle socket, Span<byte> data, List<SafeFileHandle> received, int controlBytes, out bool controlTruncated, out bool dataTruncated)
    {
        ArgumentNullException.ThrowIfNull(received);
        if (data.IsEmpty)
            throw new ArgumentException("Room for at least one byte is needed.", nameof(data));

        var control = stackalloc byte[controlBytes];
        fixed (byte* bytes = data)
        {
            var vector = new LibC.iovec_t { iov_base = bytes, iov_len = (nuint)data.Length };
            var message = new LibC.msghdr_t { msg_iov = &vector, msg_iovlen = 1, msg_control = control, msg_controllen = (nuint)controlBytes };
            nint result;
            do
                result = LibC.recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
            while (result < 0 && Marshal.GetLastPInvokeError() == EINTR);

            controlTruncated = result >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
            dataTruncated = result >= 0 && (message.msg_flags & MSG_TRUNC) != 0;
            if (result < 0)
                return WouldBlockOrThrow("recvmsg", descriptors: 0);
            Adopt(new ReadOnlySpan<byte>(control, (int)message.msg_controllen), received);
            return (int)result;
        }
    }

    private static int SendOnce(SafeHandle socket, ReadOnlySpan<byte> data, byte* control, int descriptors)
    {
        fixed (byte* bytes = data)
        {
            var vector = new LibC.iovec_t { iov_base = bytes, iov_len = (nuint)data.Length };
            var message = new LibC.msghdr_t { msg_iov = &vector, msg_iovlen = 1 };
            if (descriptors > 0)
            {
                message.msg_control = control;
                message.msg_controllen = (nuint)Align(HeaderBytes + descriptors * sizeof(int));
            }

            nint result;
            do
                result = LibC.sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
            while (result < 0 && Marshal.GetLastPInvokeError() == EINTR);
            return result < 0 ? WouldBlockOrThrow("sendmsg", descriptors) : (int)result;
        }
    }

    private static void Adopt(ReadOnlySpan<byte> control, List<SafeFileHandle> received)
    {
        while (control.Length >= HeaderBytes)
        {
            var header = MemoryMarshal.Read<LibC.cmsghdr_t>(control);
            if (header.cmsg_len < (nuint)HeaderBytes || header.cmsg_len > (nuint)control.Length)
                return;
            var length = (int)header.cmsg_len;
            if (header is { cmsg_level: SOL_SOCKET, cmsg_type: SCM_RIGHTS })
            {
                foreach (var number in MemoryMarshal.Cast<byte, int>(control[HeaderBytes..length]))
                    received.Add(new SafeFileHandle(number, ownsHandle: true));
            }

            control = control[Math.Min(Align(length), control.Length)..];
        }
    }

    private static int Align(int length) => (length + sizeof(nuint) - 1) & ~(sizeof(nuint) - 1);

    private static int WouldBlockOrThrow(string syscall, int descriptors)
    {
        var errno = Marshal.GetLastPInvokeError();
        if (errno == EAGAIN)
            return -1;
        var name = Marshal.PtrToStringUTF8(LibC.strerrorname_np(errno)) ?? $"errno {errno}";
        var hint = errno switch
        {
            EINVAL when descriptors > 0 => "; an io_uring descriptor cannot be sent",
            ETOOMANYREFS => "; too many descriptors of this user are in flight: the receiver does not read, or RLIMIT_NOFILE is low",
            _ => "",
        };
        throw new SocketException(
            (int)ToSocketError(errno), $"{syscall}({descriptors} descriptors): {name} ({Marshal.GetPInvokeErrorMessage(errno)}){hint}");
    }

    private const int EINVAL = 22;
    private const int ETOOMANYREFS = 109;

    private static SocketError ToSocketError(int errno) => errno switch
    {
        9 => SocketError.OperationAborted,
        13 => SocketError.AccessDenied,
        14 => SocketError.Fault,
        EINVAL => SocketError.InvalidArgument,
        24 or ETOOMANYREFS => SocketError.TooManyOpenSockets,
        32 => SocketError.Shutdown,
        88 => SocketError.NotSocket,
        90 => SocketError.MessageSize,
        104 => SocketError.ConnectionReset,
        105 => SocketError.NoBufferSpaceAvailable,
        107 => SocketError.NotConnected,
        111 => SocketError.ConnectionRefused,
        _ => SocketError.SocketError,
    };
}
