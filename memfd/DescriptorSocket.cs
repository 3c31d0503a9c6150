using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Interop;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>Bytes and descriptors (SCM_RIGHTS) over a connected AF_UNIX socket, stream or seqpacket.</summary>
/// <remarks>One send and one receive may run at the same time; several sends, or several receives, may not.</remarks>
public sealed class DescriptorSocket : IDisposable, IAsyncDisposable
{
    private readonly Socket _socket;
    private readonly bool _ownsSocket;

    /// <summary>Wraps a connected socket.</summary>
    /// <param name="s">AF_UNIX, stream or seqpacket.</param>
    /// <param name="ownsSocket">Whether Dispose closes it.</param>
    public DescriptorSocket(Socket s, bool ownsSocket = true)
    {
        ArgumentNullException.ThrowIfNull(s);
        if (s.AddressFamily != AddressFamily.Unix)
            throw new ArgumentException($"Descriptors travel over AF_UNIX sockets only, not over {s.AddressFamily}.", nameof(s));
        if (s.SocketType is not (SocketType.Stream or SocketType.Seqpacket))
            throw new ArgumentException($"A connected stream or seqpacket socket is needed, not {s.SocketType}.", nameof(s));
        _socket = s;
        _ownsSocket = ownsSocket;
    }

    /// <summary>The most descriptors that one message takes (SCM_MAX_FD of the kernel).</summary>
    public static int MaxDescriptors => ScmRights.MaxDescriptors;

    /// <summary>Who is at the other end.</summary>
    /// <exception cref="SyscallException">getsockopt failed.</exception>
    public PeerCredentials Peer
    {
        get
        {
            Span<int> ucred = stackalloc int[3];
            var error = LibC.GetSocketOption(_socket.SafeHandle, LibC.SO_PEERCRED, ucred);
            if (error != 0)
                throw new SyscallException("getsockopt", "SO_PEERCRED", error);
            return new PeerCredentials(ucred[0], (uint)ucred[1], (uint)ucred[2]);
        }
    }

    /// <summary>The socket's descriptor, to hand to a child.</summary>
    public SafeHandle SafeHandle => _socket.SafeHandle;

    /// <summary>Two connected stream sockets.</summary>
    public static (DescriptorSocket First, DescriptorSocket Second) CreatePair()
    {
        var (first, second) = UnixSocket.Pair();
        return (new DescriptorSocket(first), new DescriptorSocket(second));
    }

    /// <summary>The peer's process: SO_PEERPIDFD (Linux 6.5), before that pidfd_open with a check that it still has the peer's user.</summary>
    /// <exception cref="SyscallException">The peer has exited (ESRCH, EINVAL), or its number means another process by now (ESRCH).</exception>
    public PidFd OpenPeerPidFd()
    {
        var peer = Peer;
        Span<int> descriptor = stackalloc int[1];
        return LibC.GetSocketOption(_socket.SafeHandle, LibC.SO_PEERPIDFD, descriptor) switch
        {
            0 => new PidFd(descriptor[0], peer.Pid),
            Errno.ENOPROTOOPT => OpenAndCheck(peer),
            var error => throw new SyscallException("getsockopt", $"SO_PEERPIDFD, pid {peer.Pid}", error),
        };
    }

    /// <summary>Sends all the bytes; the descriptors go with the first of them.</summary>
    /// <param name="data">At least one byte.</param>
    /// <param name="descriptors">Up to 253; they stay the caller's, and may be closed once this completes.</param>
    /// <param name="ct">Cancelling after some bytes went out leaves a stream with half a message: close it then.</param>
    /// <exception cref="ArgumentException">No data, or too many descriptors.</exception>
    /// <exception cref="SocketException">Shutdown or ConnectionReset (the peer is gone), InvalidArgument (an io_uring descriptor), and others.</exception>
    public async ValueTask SendAsync(ReadOnlyMemory<byte> data, IReadOnlyList<SafeHandle> descriptors, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(descriptors);
        SafeHandle[] pending = [.. descriptors];
        do
        {
            var sent = ScmRights.Send(_socket.SafeHandle, data.Span, pending);
            if (sent < 0)
            {
                await DescriptorPoller.Shared.WaitAsync(_socket.SafeHandle, LibC.POLLOUT, ct).ConfigureAwait(false);
                continue;
            }

            data = data[sent..];
            pending = [];
        }
        while (!data.IsEmpty);
    }

    /// <summary>Receives what is there, at most up to the next bytes that carry descriptors; on seqpacket exactly one message.</summary>
    /// <param name="buffer">At least one byte long; on seqpacket as long as the longest message.</param>
    /// <param name="ct">Cancels the wait; nothing has been consumed then.</param>
    /// <returns>The bytes and descriptors; 0 bytes at the end of the stream. Dispose it.</returns>
    /// <exception cref="IOException">
    /// The kernel dropped descriptors (RLIMIT_NOFILE reached, or a security module refused), or a packet was longer than the buffer.
    /// Nothing leaks, but the message is lost: close the connection.
    /// </exception>
    /// <exception cref="SocketException">The connection broke.</exception>
    public async ValueTask<DescriptorMessage> ReceiveAsync(Memory<byte> buffer, CancellationToken ct = default)
    {
        while (true)
        {
            if (TryReceive(buffer.Span, out var message))
                return message;
            // Zero bytes: the framework peeks (MSG_PEEK), which leaves the data and its descriptors where they are.
            await _socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None, ct).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ownsSocket)
            _socket.Dispose();
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        Dispose();
        return ValueTask.CompletedTask;
    }

    private static PidFd OpenAndCheck(PeerCredentials peer)
    {
        var pidFd = PidFd.Open(peer.Pid);
        try
        {
            // The number may have been given to another process since the connect. This cannot be excluded, only narrowed down.
            if (ProcFs.Status(peer.Pid).UserIds.Effective != peer.Uid || pidFd.HasExited)
                throw new SyscallException("pidfd_open", $"peer with pid {peer.Pid}, user {peer.Uid}", Errno.ESRCH, "the peer has exited");
            return pidFd;
        }
        catch
        {
            pidFd.Dispose();
            throw;
        }
    }

    private bool TryReceive(Span<byte> buffer, out DescriptorMessage message)
    {
        var received = new List<SafeFileHandle>();
        var bytes = ScmRights.Receive(_socket.SafeHandle, buffer, received, ScmRights.DefaultControlBytes, out var lost, out var cut);
        message = new DescriptorMessage(Math.Max(bytes, 0), new ReceivedDescriptors(received));
        if (!lost && !cut)
            return bytes >= 0;

        message.Dispose();
        throw new IOException(lost
            ? $"recvmsg: MSG_CTRUNC after {received.Count} descriptors: the kernel discarded the rest. Raise RLIMIT_NOFILE of this process, or see the security module's log."
            : $"recvmsg: MSG_TRUNC: the message is longer than the buffer of {buffer.Length} bytes.");
    }
}
