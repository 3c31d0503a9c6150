using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>One attempt to move bytes, which never waits.</summary>
public static class NonBlocking
{
    /// <summary>What is returned when nothing can be moved now.</summary>
    public const int WouldBlock = -1;

    /// <summary>Receives what is there from a connected socket, whatever its own blocking mode.</summary>
    /// <returns>Bytes; 0 at the end of the stream; <see cref="WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">recv: ECONNRESET and others.</exception>
    public static int Receive(SafeHandle socket, Span<byte> buffer) =>
        Result(LibC.recv(socket, buffer, (nuint)buffer.Length, LibC.MSG_DONTWAIT), "recv");

    /// <summary>Sends what fits to a connected socket, whatever its own blocking mode.</summary>
    /// <returns>Bytes; <see cref="WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">send: EPIPE (without the signal), ECONNRESET and others.</exception>
    public static int Send(SafeHandle socket, ReadOnlySpan<byte> bytes) =>
        Result(LibC.send(socket, bytes, (nuint)bytes.Length, LibC.MSG_DONTWAIT | LibC.MSG_NOSIGNAL), "send");

    /// <summary>Reads from a descriptor that is in non-blocking mode.</summary>
    /// <returns>Bytes; 0 at the end; <see cref="WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">read: EIO (a terminal's other side is closed) and others.</exception>
    public static int Read(SafeHandle descriptor, Span<byte> buffer) =>
        Result(LibC.read(descriptor, buffer, (nuint)buffer.Length), "read");

    /// <summary>Writes to a descriptor that is in non-blocking mode.</summary>
    /// <returns>Bytes; <see cref="WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">write: EIO and others.</exception>
    public static int Write(SafeHandle descriptor, ReadOnlySpan<byte> bytes) =>
        Result(LibC.write(descriptor, bytes, (nuint)bytes.Length), "write");

    private static int Result(nint moved, string syscall) => moved >= 0
        ? (int)moved
        : Marshal.GetLastPInvokeError() is Errno.EAGAIN or Errno.EINTR ? WouldBlock : throw SyscallException.FromLastError(syscall, subject: null);
}
