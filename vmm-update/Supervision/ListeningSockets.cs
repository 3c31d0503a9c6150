using System.Net;
using System.Net.Sockets;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Finds the sockets on which another process listens, as duplicates of its descriptors.</summary>
internal static class ListeningSockets
{
    /// <summary>The listening socket that our caller passed at this number; ours from here on.</summary>
    /// <exception cref="UpdateException">There is none.</exception>
    public static Socket Passed(int number)
    {
        try
        {
            var socket = new Socket(new SafeSocketHandle(number, ownsHandle: true));
            return Listens(socket) ? socket : throw Missing("it does not listen");
        }
        catch (SocketException e)
        {
            throw Missing(e.Message);
        }

        UpdateException Missing(string why) => new("descriptor-missing", $"the command line names descriptor {number} as a listening socket: {why}", "pass one, or name a path");
    }

    /// <summary>A duplicate of the process's listening socket for this address; null when it has none.</summary>
    public static Socket? Find(PidFd process, EndpointAddress address)
    {
        foreach (var socket in Of(process))
        {
            if (Matches(socket.LocalEndPoint, address))
                return socket;
            socket.Dispose();
        }

        return null;
    }

    /// <summary>Duplicates of all sockets on which the process listens, each the caller's as soon as it is reached.</summary>
    public static IEnumerable<Socket> Of(PidFd process)
    {
        foreach (var descriptor in ProcFs.Descriptors(process.Pid).Where(d => d.Info.Kind == DescriptorKind.Socket))
        {
            var socket = Own(process.GetDescriptor(descriptor.Number));
            if (Listens(socket))
                yield return socket;
            else
                socket.Dispose();
        }
    }

    /// <summary>Accepts and closes what waits for the monitor of a VMM that has its one client and accepts nobody: connections that nobody uses any more.</summary>
    /// <remarks>QEMU sets the backlog to 1. Two that are left there, and the next to connect waits for ever.</remarks>
    public static void ClearBacklog(Qemu.Vmm vmm)
    {
        using var listener = Own(vmm.PidFd.GetDescriptor(Qemu.VmmLauncher.MonitorDescriptor));
        while (listener.Poll(TimeSpan.Zero, SelectMode.SelectRead))
            listener.Accept().Dispose();
    }

    private static Socket Own(Microsoft.Win32.SafeHandles.SafeFileHandle descriptor)
    {
        var socket = new Socket(new SafeSocketHandle(descriptor.DangerousGetHandle(), ownsHandle: true));
        descriptor.SetHandleAsInvalid();
        return socket;
    }

    private static bool Listens(Socket socket)
    {
        const int acceptsConnections = 30; // SO_ACCEPTCONN, asm-generic/socket.h
        Span<byte> value = stackalloc byte[sizeof(int)];
        return socket.SocketType == SocketType.Stream && socket.GetRawSocketOption(1, acceptsConnections, value) == sizeof(int) && value[0] != 0;
    }

    private static bool Matches(EndPoint? local, EndpointAddress address) => (local, address) switch
    {
        (UnixDomainSocketEndPoint unix, UnixAddress wanted) => unix.ToString().TrimStart('@', '\0') == wanted.Path,
        (IPEndPoint ip, TcpAddress wanted) => int.TryParse(wanted.Port, out var port) && ip.Port == port,
        _ => false,
    };
}
