using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>The sockets on which a VMM listens for VNC's viewers, held until the next VMM listens on them: whoever connects meanwhile is not refused, but waits.</summary>
internal sealed class VncListeners : IDisposable
{
    private readonly List<Socket> _sockets = [];

    /// <summary>Of the first display, the one that listens again after an update.</summary>
    /// <returns>Empty where they cannot be had: then the next VMM makes new ones.</returns>
    public static async Task<VncListeners> HoldAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var held = new VncListeners();
        try
        {
            var displays = await vmm.ExecuteAsync("query-vnc-servers", cancellationToken);
            var places = displays.EnumerateArray().Take(1).SelectMany(d => d.GetProperty("server").EnumerateArray())
                .Where(s => !s.GetProperty("websocket").GetBoolean())
                .Select(s => (s.GetProperty("family").GetString(), s.GetProperty("service").GetString()))
                .ToHashSet();
            foreach (var socket in places.Count > 0 ? ListeningSockets.Of(vmm.PidFd) : [])
            {
                if (places.Contains(PlaceOf(socket)))
                    held._sockets.Add(socket);
                else
                    socket.Dispose();
            }
        }
        catch (Exception e) when (e is QmpException or SyscallException or SocketException)
        {
            held.Dispose();
        }

        return held;
    }

    /// <summary>Makes this VMM listen on them.</summary>
    /// <returns>Whether it does.</returns>
    public async Task<bool> TryPassAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        if (_sockets.Count == 0)
            return false;
        try
        {
            var addresses = new JsonArray();
            foreach (var (i, socket) in _sockets.Index())
            {
                var name = $"cprsharp-vnc-{i}";
                await vmm.GiveAsync(name, socket.SafeHandle, cancellationToken);
                addresses.Add((JsonNode)new JsonObject { ["type"] = "fd", ["str"] = name });
            }

            await vmm.ExecuteAsync("display-update", new JsonObject { ["type"] = "vnc", ["addresses"] = addresses }, cancellationToken);
            return true;
        }
        catch (QmpException)
        {
            return false;
        }
        finally
        {
            Dispose();
        }
    }

    public void Dispose()
    {
        _sockets.ForEach(s => s.Dispose());
        _sockets.Clear();
    }

    private static (string?, string?) PlaceOf(Socket socket) => socket.LocalEndPoint switch
    {
        IPEndPoint { AddressFamily: AddressFamily.InterNetwork } ip => ("ipv4", $"{ip.Port}"),
        IPEndPoint ip => ("ipv6", $"{ip.Port}"),
        UnixDomainSocketEndPoint unix => ("unix", unix.ToString()),
        _ => default,
    };
}
