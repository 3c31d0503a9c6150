using System.Net;
using System.Net.Sockets;
using System.Text;
using CprSharp.Memfd;

namespace CprSharp.SystemTests.Harness;

/// <summary>A place where a VM's clients connect, and what they find there.</summary>
internal sealed record Endpoint(string Name, Func<Socket> Connect, string Greeting)
{
    public static Endpoint Hmp(string path) => new($"monitor {path}", () => UnixSocket.Connect(path), "(qemu)");

    public static Endpoint Qmp(string path) => new($"QMP {path}", () => UnixSocket.Connect(path), "\"QMP\"");

    public static Endpoint QmpTcp(int port) => new($"QMP port {port}", () => Tcp(port), "\"QMP\"");

    public static Endpoint Unix(string path) => new(path, () => UnixSocket.Connect(path), "");

    public static Endpoint Port(int port) => new($"port {port}", () => Tcp(port), "");

    public static Endpoint Vnc(int display) => new($"VNC :{display}", () => Tcp(5900 + display), "RFB ");

    public static Endpoint VncUnix(string path) => new($"VNC {path}", () => UnixSocket.Connect(path), "RFB ");

    /// <summary>Somebody listens there and says what such a place says first.</summary>
    public Task ExpectAsync() => Deadlines.EventuallyAsync(async () =>
    {
        try
        {
            using var socket = Connect();
            var buffer = new byte[4096];
            var text = "";
            using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(5));
            while (!text.Contains(Greeting, StringComparison.Ordinal))
            {
                var bytes = await socket.ReceiveAsync(buffer, deadline.Token);
                if (bytes == 0)
                    return $"{Name} says '{text}' and closes";
                text += Encoding.UTF8.GetString(buffer, 0, bytes);
            }

            return null;
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException)
        {
            return $"{Name} does not answer: {e.Message}";
        }
    });

    /// <summary>A TCP port that nobody has.</summary>
    public static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    /// <summary>A VNC display whose port nobody has.</summary>
    public static int FreeDisplay()
    {
        for (var display = 20; ; display++)
        {
            try
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                socket.Bind(new IPEndPoint(IPAddress.Any, 5900 + display));
                return display;
            }
            catch (SocketException) when (display < 90)
            {
                // Somebody else's.
            }
        }
    }

    private static Socket Tcp(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(IPAddress.Loopback, port);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
