using System.Net.Sockets;

namespace CprSharp.Qmp.Tests;

internal static class SocketPair
{
    public static UnixDomainSocketEndPoint NewAddress() => new($"\0cprsharp-qmp-test-{Guid.NewGuid()}");

    public static Socket NewSocket() => new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    /// <summary>Two connected sockets.</summary>
    public static async Task<(Socket Near, Socket Far)> CreateAsync()
    {
        var address = NewAddress();
        using var listener = NewSocket();
        listener.Bind(address);
        listener.Listen(1);
        var near = NewSocket();
        await near.ConnectAsync(address);
        return (near, await listener.AcceptAsync());
    }
}
