using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Supervision;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>Where a console's clients come in, one after the other, for the VM's life.</summary>
internal interface IConsoleDoor : IDisposable
{
    /// <summary>Its name as QEMU writes it in <c>query-chardev</c>.</summary>
    string Name { get; }

    /// <summary>Whether nothing announces a client, so that it has to be looked for now and then.</summary>
    bool IsSilent { get; }

    /// <summary>Waits for clients with this set.</summary>
    void Watch(PollSet set);

    /// <summary>The next client; null when there is none.</summary>
    IConsoleClient? TryAccept(PollSet set);

    /// <summary>What has to outlive the supervisor, since the door cannot be opened again at the same place; null where it can.</summary>
    SafeHandle? Unrepeatable { get; }

    /// <summary>What is needed to open it again after an exec.</summary>
    (int Descriptor, string? Terminal) Save(KeptDescriptors kept);

    /// <summary>The client that had come in before the exec.</summary>
    IConsoleClient Restore(int? client);

    /// <summary>One that the program before this one in our process has had.</summary>
    static IConsoleDoor Restore(EndpointAddress address, ConsoleState state) => address switch
    {
        TerminalAddress terminal => TerminalDoor.Restore(state.Door, terminal.Link),
        _ => new SocketDoor(KeptDescriptors.TakeSocket(state.Door), address),
    };

    /// <param name="address">Where.</param>
    /// <param name="kept">What was kept of it while its supervisor died, owned by the result; null for none.</param>
    static IConsoleDoor Open(EndpointAddress address, SafeFileHandle? kept = null) => address switch
    {
        TerminalAddress terminal => TerminalDoor.Open(terminal.Link, kept),
        _ => new SocketDoor(HeldDescriptors.Listen(address), address),
    };
}

/// <summary>A listening socket; its name goes with it.</summary>
internal sealed class SocketDoor : IConsoleDoor
{
    private readonly Socket _listener;
    private readonly EndpointAddress _address;

    public SocketDoor(Socket listener, EndpointAddress address)
    {
        _listener = listener;
        _listener.Blocking = false;
        _address = address;
    }

    public string Name => _address switch
    {
        UnixAddress unix => $"unix:{unix.Path}{(unix.Abstract ? ",abstract=on" : "")},server=on",
        _ when _listener.LocalEndPoint is UnixDomainSocketEndPoint unix => $"unix:{unix},server=on",
        _ => $"tcp:{_listener.LocalEndPoint},server=on",
    };

    public bool IsSilent => false;

    public SafeHandle? Unrepeatable => null;

    public (int Descriptor, string? Terminal) Save(KeptDescriptors kept) => (kept.Keep(_listener.SafeHandle), null);

    public IConsoleClient Restore(int? client) => new SocketClient(KeptDescriptors.TakeSocket(client!.Value));

    public void Watch(PollSet set) => set.Add(_listener.SafeHandle, Readiness.Readable);

    public IConsoleClient? TryAccept(PollSet set)
    {
        if ((set.Of(_listener.SafeHandle) & Readiness.Readable) == Readiness.None)
            return null;
        try
        {
            var socket = _listener.Accept();
            if (socket.AddressFamily != AddressFamily.Unix)
                socket.NoDelay = true;
            return new SocketClient(socket);
        }
        catch (SocketException)
        {
            return null; // it went away before it was accepted
        }
    }

    public void Dispose()
    {
        _listener.Dispose();
        if (_address is UnixAddress { Abstract: false } unix)
            File.Delete(unix.Path);
    }
}

/// <summary>A pseudoterminal. Whether somebody has it open, the kernel announces to nobody; QEMU looks every second, too.</summary>
internal sealed class TerminalDoor : IConsoleDoor
{
    private readonly Pseudoterminal _terminal;
    private readonly string? _link;

    private TerminalDoor(Pseudoterminal terminal, string? link)
    {
        _terminal = terminal;
        _link = link;
    }

    public static TerminalDoor Open(string? link, SafeFileHandle? kept)
    {
        var terminal = kept is null ? Pseudoterminal.Open() : Pseudoterminal.FromMaster(kept);
        if (link is not null)
        {
            File.Delete(link);
            File.CreateSymbolicLink(link, terminal.Path);
        }

        return new TerminalDoor(terminal, link);
    }

    public string Name => $"pty:{_terminal.Path}";

    public bool IsSilent => true;

    public SafeHandle? Unrepeatable => _terminal.Master;

    public static TerminalDoor Restore(int master, string? link) =>
        new(Pseudoterminal.FromMaster(ProgramReplacement.Take(master)), link);

    public (int Descriptor, string? Terminal) Save(KeptDescriptors kept) => (kept.Keep(_terminal.Master), _terminal.Path);

    public IConsoleClient Restore(int? client) => new TerminalClient(_terminal);

    public void Watch(PollSet set)
    {
        // It would report its hang-up without end.
    }

    public IConsoleClient? TryAccept(PollSet set) => PollSet.HasHungUp(_terminal.Master) ? null : new TerminalClient(_terminal);

    public void Dispose()
    {
        _terminal.Dispose();
        if (_link is not null)
            File.Delete(_link);
    }
}
