using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Interop;

namespace CprSharp.Memfd;

/// <summary>Sends datagrams, or a descriptor alone, to an AF_UNIX socket; never waits for whoever reads them.</summary>
public sealed class UnixDatagram : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { Blocking = false };

    /// <summary>Connects.</summary>
    /// <exception cref="SocketException">Nobody is there.</exception>
    public UnixDatagram(string path)
    {
        try
        {
            _socket.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch
        {
            _socket.Dispose();
            throw;
        }
    }

    /// <summary>Sends a datagram.</summary>
    /// <returns>False when it is longer than a datagram may be. What a reader that does not read has no room for is dropped.</returns>
    /// <exception cref="SocketException">Nobody is there any more.</exception>
    public bool Send(ReadOnlySpan<byte> data)
    {
        try
        {
            _socket.Send(data);
            return true;
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock)
        {
            return true;
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.MessageSize or SocketError.NoBufferSpaceAvailable)
        {
            return false;
        }
    }

    /// <summary>Sends a datagram with a descriptor.</summary>
    /// <param name="data">At least one byte.</param>
    /// <param name="descriptor">Stays the caller's.</param>
    /// <returns>False when a reader that does not read has no room for it.</returns>
    /// <exception cref="SocketException">Nobody is there any more, or the data is longer than a datagram may be.</exception>
    public bool Send(ReadOnlySpan<byte> data, SafeHandle descriptor) => ScmRights.Send(_socket.SafeHandle, data, [descriptor]) >= 0;

    /// <summary>Sends a descriptor in a datagram without bytes.</summary>
    /// <exception cref="SocketException">Nobody is there any more.</exception>
    public void Send(SafeHandle descriptor) => ScmRights.SendAlone(_socket.SafeHandle, descriptor);

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();
}
