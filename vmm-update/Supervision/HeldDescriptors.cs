using System.Globalization;
using System.Net;
using System.Net.Sockets;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;
using GuestMemfd = CprSharp.Memfd.Memfd;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The descriptors that the supervisor holds for the VM's life and gives to each of its VMMs. Owns them.</summary>
internal sealed class HeldDescriptors : IDisposable
{
    private readonly List<InheritedDescriptor> _descriptors;
    private readonly List<Socket> _sockets;
    private readonly List<(TapDescriptor Wanted, SafeFileHandle Queue)> _taps = [];
    private readonly List<InheritedDescriptor> _passedOn = [];

    private HeldDescriptors(List<InheritedDescriptor> descriptors, List<Socket> sockets)
    {
        _descriptors = descriptors;
        _sockets = sockets;
    }

    /// <summary>For the VMM that starts the guest, until <see cref="LetGo"/>: what is handed over by VMMs themselves from then on.</summary>
    public IReadOnlyList<InheritedDescriptor> PassedOn => _passedOn;

    /// <summary>For every VMM that runs the guest.</summary>
    public IReadOnlyList<InheritedDescriptor> All => [.. Prepared, .. _taps.Select(t => new InheritedDescriptor(t.Queue, t.Wanted.Number))];

    /// <summary>For a VMM that is being prepared, beside the stand-ins for the taps.</summary>
    public IReadOnlyList<InheritedDescriptor> Prepared =>
    [
        .. _descriptors,
        .. _taps.Select(t => new InheritedDescriptor(t.Queue, t.Wanted.Spare)),
    ];

    public IReadOnlyList<(TapDescriptor Wanted, SafeFileHandle Queue)> Taps => _taps;

    /// <summary>Makes what the spec asks for.</summary>
    public static HeldDescriptors Create(VmSpec spec, VmDirectory directory, string binary)
    {
        var held = new HeldDescriptors([], []);
        try
        {
            foreach (var wanted in spec.Descriptors)
                held.Add(wanted, listen: true, directory.Path);
            foreach (var number in spec.InheritedDescriptors)
                held._descriptors.Add(new InheritedDescriptor(Duplicate(number), number));
            foreach (var netdev in spec.Descriptors.OfType<TapDescriptor>().GroupBy(t => t.Netdev))
                held._taps.AddRange(netdev.Zip(TapOpener.Open([.. netdev], Duplicate, binary)));
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Takes them back from a VMM that has them, after a supervisor was lost.</summary>
    public static HeldDescriptors TakeFrom(VmSpec spec, PidFd vmm)
    {
        var held = new HeldDescriptors([], []);
        foreach (var number in spec.Descriptors.Where(d => d is not (TapDescriptor or PassedThroughDescriptor)).Select(d => d.Number).Concat(spec.InheritedDescriptors))
            held._descriptors.Add(new InheritedDescriptor(vmm.GetDescriptor(number), number));
        foreach (var tap in spec.Descriptors.OfType<TapDescriptor>())
            held._taps.Add((tap, vmm.GetDescriptor(tap.Spare)));
        return held;
    }

    /// <summary>Those that the program before this one in our process has had.</summary>
    public static HeldDescriptors Restore(VmSpec spec, HeldState state)
    {
        var held = new HeldDescriptors([.. state.Descriptors.Select(d => new InheritedDescriptor(ProgramReplacement.Take(d.Descriptor), d.Number))], []);
        foreach (var tap in state.Taps)
            held._taps.Add((spec.Descriptors.OfType<TapDescriptor>().Single(t => t.Number == tap.Number), ProgramReplacement.Take(tap.Descriptor)));
        return held;
    }

    /// <summary>For the program after this one.</summary>
    public HeldState Save(VmSpec spec, KeptDescriptors kept)
    {
        foreach (var number in spec.InheritedDescriptors)
            kept.Keep(number); // a rehearsal gives them by their own numbers
        return new HeldState
        {
            Descriptors = [.. _descriptors.Select(d => new HeldNumber(d.Number, kept.Keep(d.Handle)))],
            Taps = [.. _taps.Select(t => new HeldNumber(t.Wanted.Number, kept.Keep(t.Queue)))],
        };
    }

    /// <summary>Takes duplicates of the listening sockets of a VMM that made them itself, and of the descriptors it was started with.</summary>
    public static HeldDescriptors TakeListeners(VmSpec spec, PidFd vmm)
    {
        var held = new HeldDescriptors([], []);
        foreach (var wanted in spec.Descriptors.OfType<ListenerDescriptor>())
        {
            var socket = ListeningSockets.Find(vmm, wanted.Address)
                ?? throw new UpdateException("listener", $"pid {vmm.Pid} does not listen on {wanted.Address}, as its command line says", "connect its clients again and retry");
            held._sockets.Add(socket);
            held._descriptors.Add(new InheritedDescriptor(socket.SafeHandle, wanted.Number));
        }

        foreach (var number in spec.InheritedDescriptors)
            held._descriptors.Add(new InheritedDescriptor(vmm.GetDescriptor(number), number));
        return held;
    }

    /// <summary>The same numbers and sizes, with nothing of the running VM behind them.</summary>
    public static HeldDescriptors CreateForRehearsal(VmSpec spec, VmDirectory scratch)
    {
        var held = new HeldDescriptors([], []);
        foreach (var wanted in spec.Descriptors)
        {
            // Without huge pages: they are a reservation, and the rehearsal touches next to nothing.
            held.Add(
                wanted is GuestRamDescriptor ram ? ram with { HugePageSize = null } : wanted,
                listen: false,
                scratch.Path);
        }

        foreach (var number in spec.InheritedDescriptors)
            held._descriptors.Add(new InheritedDescriptor(Duplicate(number), number));
        return held;
    }

    /// <summary>Closes what the VMM that starts the guest has got and nobody else is to have.</summary>
    public void LetGo()
    {
        foreach (var descriptor in _passedOn)
            descriptor.Handle.Dispose();
        _passedOn.Clear();
    }

    public void AddRam(GuestRamDescriptor ram) => Add(ram, listen: true, "");

    public void Dispose()
    {
        LetGo();
        foreach (var descriptor in _descriptors)
            descriptor.Handle.Dispose();
        foreach (var socket in _sockets)
            socket.Dispose();
        foreach (var (_, queue) in _taps)
            queue.Dispose();
    }

    private void Add(HeldDescriptor wanted, bool listen, string directory)
    {
        switch (wanted)
        {
            case GuestRamDescriptor ram:
                var memfd = GuestMemfd.Create($"cprsharp-{ram.Id}", ram.Size, new MemfdOptions { HugePageSize = ram.HugePageSize, Seals = Seals.Shrink | Seals.Grow | Seals.Seal });
                _descriptors.Add(new InheritedDescriptor(memfd, ram.Number));
                break;
            case ListenerDescriptor listener:
                Hold(listen ? Listen(listener.Address) : Nameless(directory, listener.Number), listener.Number);
                break;
            case ConsoleDescriptor console:
                Hold(Nameless(directory, console.Number), console.Number);
                break;
            case IommufdDescriptor iommufd:
                _descriptors.Add(new InheritedDescriptor(DeviceOpener.OpenIommufd(iommufd.Object), iommufd.Number));
                break;
            case PassedThroughDescriptor device when listen:
                _passedOn.Add(new InheritedDescriptor(DeviceOpener.OpenDevice(device), device.Number));
                break;
        }
    }

    private void Hold(Socket socket, int number)
    {
        _sockets.Add(socket);
        _descriptors.Add(new InheritedDescriptor(socket.SafeHandle, number));
    }

    /// <summary>A listening socket to which nobody can connect.</summary>
    private static Socket Nameless(string directory, int number)
    {
        var path = Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"listener-{number}"));
        var socket = UnixSocket.Listen(path, 1);
        File.Delete(path);
        return socket;
    }

    internal static Socket Listen(EndpointAddress address)
    {
        switch (address)
        {
            case UnixAddress { Abstract: false } unix:
                return UnixSocket.Listen(unix.Path, 16, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite);
            case UnixAddress unix:
                var name = "\0" + (unix.Tight ? unix.Path : unix.Path.PadRight(107, '\0'));
                var local = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                local.Bind(new UnixDomainSocketEndPoint(name));
                local.Listen(16);
                return local;
            case TcpAddress tcp:
                return ListenTcp(tcp);
            case DescriptorAddress passed:
                return ListeningSockets.Passed(passed.Number);
            default:
                throw new UpdateException("listener", $"cannot listen on {address}", "use a unix or tcp socket");
        }
    }

    private static Socket ListenTcp(TcpAddress tcp)
    {
        var host = string.IsNullOrEmpty(tcp.Host)
            ? (tcp.Ipv4 == true && tcp.Ipv6 != true ? IPAddress.Any : IPAddress.IPv6Any)
            : Dns.GetHostAddresses(tcp.Host).FirstOrDefault() ?? throw new UpdateException("listener", $"host '{tcp.Host}' has no address", "name an address of this host");
        if (!int.TryParse(tcp.Port, NumberStyles.None, CultureInfo.InvariantCulture, out var port))
            throw new UpdateException("listener", $"'{tcp.Port}' is not a port number", "give the port as a number");

        for (var candidate = port; ; candidate++)
        {
            var socket = new Socket(host.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
                if (host.Equals(IPAddress.IPv6Any))
                    socket.DualMode = tcp.Ipv4 != false;
                socket.Bind(new IPEndPoint(host, candidate));
                socket.Listen(16);
                return socket;
            }
            catch (SocketException e)
            {
                socket.Dispose();
                if (candidate >= (tcp.To ?? port))
                    throw new UpdateException("listener", $"cannot listen on {host} port {port}{(tcp.To is { } to ? $" to {to}" : "")}: {e.Message}", "free the port or choose another", e);
            }
        }
    }

    private static SafeFileHandle Duplicate(int number)
    {
        using var self = PidFd.Open(Environment.ProcessId);
        try
        {
            return self.GetDescriptor(number);
        }
        catch (SyscallException e)
        {
            throw new UpdateException("descriptor-missing", $"the command line names descriptor {number}, which the supervisor was not given: {e.Message}", "pass it, or remove the option", e);
        }
    }
}
