using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>One console: its client on one side, the VMM that has the guest on the other, and a bounded number of bytes between them.</summary>
/// <remarks>
/// What keeps every byte single and in order over an update:
/// <list type="bullet">
/// <item>Before the pause, what the VMM has not read is taken back, and nothing is sent to it any more; whoever gets the guest gets it.</item>
/// <item>From then on nothing is read from the VMM either: room in its socket would let it send, from devices that are paused, what their
/// saved state still holds and the next VMM sends again. What it had written is read when it is dead, before the next one's output.</item>
/// </list>
/// Not thread-safe: the hub's lock is held.
/// </remarks>
internal sealed class ConsoleRelay(ConsoleDescriptor wanted, IConsoleDoor door) : IDisposable
{
    private const int Room = 64 << 10;

    private readonly ByteBuffer _toVmm = new(Room);
    private readonly ByteBuffer _toClient = new(Room);
    private readonly SentInput _sent = new(wanted.Telnet, wanted.Monitor);

    /// <summary>To the VMMs before this one, until all that they wrote is read: more than one when the client does not read.</summary>
    private readonly Queue<ConsoleLink> _former = [];

    private IConsoleClient? _client;
    private bool _clientDone; // has no more to say
    private bool _clientGone; // nobody there any more
    private ConsoleLink? _link;
    private bool _linkDone;
    private bool _inputEnded;
    private ConsoleLink? _next;   // to the VMM that an update prepares
    private bool _held;

    public string Id => wanted.Chardev;

    /// <summary><inheritdoc cref="IConsoleDoor.Unrepeatable"/></summary>
    public SafeHandle? Unrepeatable => door.Unrepeatable;

    /// <summary>Whether the guest may not start before the first client has come.</summary>
    public bool AwaitsClient => wanted.Wait && _client is null;

    /// <summary>As QEMU says it in <c>query-chardev</c>.</summary>
    public string Name => _client is not null || door.IsSilent ? door.Name : $"disconnected:{door.Name}";

    public bool HasClient => _client is not null;

    public bool IsConnected => _client is not null && _link is not null;

    /// <summary>Whether a client waits to be connected to the VMM.</summary>
    public bool WantsLink => _client is not null && _link is null && !IsAttaching;

    public bool IsAttaching { get; set; }

    /// <summary>Whether input stays here because the machine must not be changed.</summary>
    public bool HoldsCommands { get; set; }

    /// <summary>Whether it has to be looked at now and then, for what nothing announces.</summary>
    public bool NeedsLooking(bool accepting) => _client is null ? accepting && door.IsSilent : _clientDone && !_inputEnded;

    /// <summary>The next of them to be read, which must not be before it is dead.</summary>
    private ConsoleLink? DeadFormer => _former.TryPeek(out var first) && first.VmmEnded.IsCompleted ? first : null;

    private bool MayReadVmm => _former.Count == 0 && !_held && !_linkDone && _toClient.HasRoom;

    private bool MaySend => !_held && !_linkDone && _toVmm.Count > 0 && !(HoldsCommands && wanted.Monitor);

    /// <summary>One that the program before this one in our process has had.</summary>
    public static ConsoleRelay Restore(ConsoleDescriptor wanted, ConsoleState state, Task vmmEnded)
    {
        var door = IConsoleDoor.Restore(wanted.Address, state);
        var relay = new ConsoleRelay(wanted, door)
        {
            _client = state.HasClient ? door.Restore(state.Client) : null,
            _clientDone = state.ClientDone,
            _clientGone = state.ClientGone,
            _link = state.Link is { } link ? ConsoleLink.Restore(link, vmmEnded) : null,
            _linkDone = state.LinkDone,
            _inputEnded = state.InputEnded,
        };
        foreach (var former in state.Former)
            relay._former.Enqueue(ConsoleLink.Restore(former, Task.CompletedTask));
        relay._toVmm.Restore(state.ToVmm);
        relay._toClient.Restore(state.ToClient);
        relay._sent.Restore(state.Sent);
        return relay;
    }

    /// <summary>For the program after this one. Nothing may be moved meanwhile, and no update be under way.</summary>
    public ConsoleState Save(KeptDescriptors kept)
    {
        if (_former.Any(f => !f.VmmEnded.IsCompleted))
            throw new InvalidOperationException($"console {Id} still waits for a former VMM's end");
        var (descriptor, terminal) = door.Save(kept);
        return new ConsoleState
        {
            Id = Id,
            Door = descriptor,
            Terminal = terminal,
            HasClient = _client is not null,
            Client = _client is { IsSocket: true } client ? kept.Keep(client.Handle) : null,
            ClientDone = _clientDone,
            ClientGone = _clientGone,
            LinkDone = _linkDone,
            InputEnded = _inputEnded,
            ToVmm = _toVmm.Content.ToArray(),
            ToClient = _toClient.Content.ToArray(),
            Sent = _sent.Save(),
            Link = _link?.Save(kept),
            Former = [.. _former.Select(f => f.Save(kept))],
        };
    }

    /// <summary>Connects the client to a VMM that is being prepared.</summary>
    /// <param name="fresh">The VMM.</param>
    /// <param name="plugged">Whether it may write nothing before it has the guest.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public Task<ConsoleLink> ConnectAsync(Vmm fresh, bool plugged, CancellationToken cancellationToken) =>
        ConsoleLink.PrepareAsync(fresh, Id, plugged, wanted.Telnet, wanted.Monitor, cancellationToken);

    public void Watch(PollSet set, bool accepting)
    {
        if (_client is null)
        {
            if (accepting)
                door.Watch(set);
            return;
        }

        if (_link is null)
            return; // what the client says waits in its socket
        var client = (!_clientDone && _toVmm.HasRoom ? Readiness.Readable : Readiness.None) | (_toClient.Count > 0 ? Readiness.Writable : Readiness.None);
        if (client != Readiness.None || (_clientDone && !_clientGone && !_held))
            set.Add(_client.Handle, client);
        if (DeadFormer is { } dead && _toClient.HasRoom)
            set.Add(dead.Handle, Readiness.Readable);
        var link = (MayReadVmm ? Readiness.Readable : Readiness.None) | (MaySend ? Readiness.Writable : Readiness.None);
        if (link != Readiness.None)
            set.Add(_link.Handle, link);
    }

    /// <summary>Moves what can be moved. Whether a client has come.</summary>
    public bool Advance(PollSet set, bool accepting)
    {
        if (_client is null)
        {
            if (accepting)
                _client = door.TryAccept(set);
            return _client is not null;
        }

        if (_link is null)
            return false;
        ReadClient(set.Of(_client.Handle));
        SendToVmm();
        ReadVmm(set);
        SendToClient();
        Settle();
        return false;
    }

    public void Attached(ConsoleLink link) => _link = link;

    /// <summary>The client is connected to the VMM that is being prepared, too.</summary>
    public void Prepared(ConsoleLink link)
    {
        _next?.Dispose();
        _next = null;
        if (IsConnected && !_linkDone)
            _next = link;
        else
            link.Dispose();
    }

    public void Hold()
    {
        _held = true;
        if (_link?.TakeBack() is { Length: > 0 } unread)
        {
            _toVmm.PutBack(unread);
            _sent.TakenBack(unread.Length);
        }
    }

    public void Resume() => _held = false;

    /// <summary>The prepared VMM has the guest.</summary>
    public void Switch()
    {
        if (_link is null)
            return;
        _toVmm.PutBack(_sent.ToRepeat());
        var isBehind = _former.Count > 0 || !_toClient.HasRoom;
        _link.LetGo();
        _former.Enqueue(_link);
        (_link, _next) = (_next, null);

        // A client who does not read must not fill the kernel's memory by one VMM after the other.
        if (isBehind)
            _link?.Narrow();
        else
            _link?.Open();
        _linkDone = _inputEnded = false;
        _held = false;
    }

    /// <summary>The VMM has ended, and with it the guest.</summary>
    public void VmmDied() => _link?.LetGo();

    /// <summary>The update that was prepared for is over.</summary>
    public void DropPrepared()
    {
        _next?.Dispose();
        _next = null;
    }

    public void Close()
    {
        foreach (var link in _former.Append(_link).Append(_next))
            link?.Dispose();
        _former.Clear();
        _link = _next = null;
        _client?.Dispose();
        _client = null;
        _clientDone = _clientGone = _linkDone = _inputEnded = false;
        _toVmm.Clear();
        _toClient.Clear();
        _sent.Clear();
    }

    public void Dispose()
    {
        Close();
        door.Dispose();
    }

    private void ReadClient(Readiness seen)
    {
        if ((seen & (Readiness.Readable | Readiness.HangUp | Readiness.Error)) == Readiness.None)
            return;
        if (!_clientDone)
        {
            if (!_toVmm.HasRoom)
                return;
            try
            {
                var count = _client!.Receive(_toVmm.Free);
                if (count > 0)
                    _toVmm.Added(count);
                if (count != 0)
                    return;
            }
            catch (SyscallException)
            {
                _clientGone = true;
            }

            _clientDone = true;
        }

        _clientGone |= (seen & (Readiness.HangUp | Readiness.Error)) != Readiness.None;
    }

    private void SendToVmm()
    {
        if (!MaySend)
            return;
        try
        {
            var count = _link!.Send(_toVmm.Content);
            if (count <= 0)
                return;
            _sent.Sent(_toVmm.Content[..count]);
            _toVmm.Taken(count);
        }
        catch (SyscallException)
        {
            _toVmm.Clear(); // it reads no more; what it has written is still to be read
        }
    }

    private void ReadVmm(PollSet set)
    {
        if (DeadFormer is { } dead && Read(dead))
        {
            _former.Dequeue().Dispose();
            if (_former.Count == 0)
                _link?.Open();
        }

        if (_link is not null && MayReadVmm && set.Of(_link.Handle) != Readiness.None && Read(_link))
            _linkDone = true;
    }

    /// <returns>Whether it was the end.</returns>
    private bool Read(ConsoleLink link)
    {
        if (!_toClient.HasRoom)
            return false;
        try
        {
            var room = _toClient.Free;
            var count = link.Receive(room);
            if (count > 0)
            {
                var rest = link.Greeting is { } greeting ? greeting.Strip(room[..count]) : room[..count];
                rest.CopyTo(room);
                _toClient.Added(rest.Length);
            }

            return count == 0;
        }
        catch (SyscallException)
        {
            return true;
        }
    }

    private void SendToClient()
    {
        if (_clientGone)
            _toClient.Clear();
        if (_toClient.Count == 0)
            return;
        try
        {
            var count = _client!.Send(_toClient.Content);
            if (count > 0)
                _toClient.Taken(count);
        }
        catch (SyscallException)
        {
            _clientDone = _clientGone = true;
        }
    }

    private void Settle()
    {
        if (_held)
            return;
        if (_clientGone || (_linkDone && _former.Count == 0 && _toClient.Count == 0))
        {
            Close();
        }
        else if (_clientDone && !_inputEnded && _toVmm.Count == 0 && _link!.IsRead)
        {
            _link.EndInput();
            _inputEnded = true;
        }
    }
}
