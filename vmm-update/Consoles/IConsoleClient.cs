using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>Who has connected to a console. Owned by its relay.</summary>
internal interface IConsoleClient : IDisposable
{
    /// <summary>Whether it has a descriptor of its own.</summary>
    bool IsSocket { get; }

    /// <summary>To be waited for.</summary>
    SafeHandle Handle { get; }

    /// <returns>As <see cref="NonBlocking.Receive"/>.</returns>
    int Receive(Span<byte> buffer);

    /// <returns>As <see cref="NonBlocking.Send"/>.</returns>
    int Send(ReadOnlySpan<byte> bytes);
}

/// <summary>A client on a socket.</summary>
internal sealed class SocketClient(Socket socket) : IConsoleClient
{
    public bool IsSocket => true;

    public SafeHandle Handle => socket.SafeHandle;

    public int Receive(Span<byte> buffer) => NonBlocking.Receive(socket.SafeHandle, buffer);

    public int Send(ReadOnlySpan<byte> bytes) => NonBlocking.Send(socket.SafeHandle, bytes);

    public void Dispose() => socket.Dispose();
}

/// <summary>Somebody has the terminal open. The pseudoterminal itself stays, for the next one.</summary>
internal sealed class TerminalClient(Pseudoterminal terminal) : IConsoleClient
{
    public bool IsSocket => false;

    public SafeHandle Handle => terminal.Master;

    public int Receive(Span<byte> buffer) => NonBlocking.Read(terminal.Master, buffer);

    public int Send(ReadOnlySpan<byte> bytes) => NonBlocking.Write(terminal.Master, bytes);

    public void Dispose()
    {
        // Nothing of ours.
    }
}
