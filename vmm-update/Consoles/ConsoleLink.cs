using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>A client's connection to one VMM: a pair of sockets whose VMM's end is held here, too.</summary>
/// <remarks>
/// So what the VMM has not read can be taken back (<see cref="TakeBack"/>), which no other kind of connection allows: a paused VMM goes on
/// reading into the devices whose state it has already given away.
/// <para>
/// A VMM that is being prepared may be plugged: its end takes no byte. A virtio-serial port would begin to send when its state is loaded,
/// not when the guest runs, and mark in the guest's memory as sent what nobody gets if the update fails (virtio_serial_load_device in
/// hw/char/virtio-serial-bus.c).
/// </para>
/// </remarks>
internal sealed class ConsoleLink : IDisposable
{
    private const int SocketLevel = 1; // SOL_SOCKET, SO_SNDBUF and SO_SNDBUFFORCE of asm-generic/socket.h
    private const int SendBuffer = 7;
    private const int SendBufferForced = 32;

    /// <summary>
    /// What the guest may be ahead while nobody reads. virtconsole drops what finds no room (flush_buf in hw/char/virtio-console.c), and
    /// each write of one byte counts as 768.
    /// </summary>
    private const int OutputRoom = 1 << 20;

    /// <summary>What the VMM may leave unread; all of it fits <see cref="TakeBack"/>.</summary>
    private const int InputRoom = 32 << 10;

    /// <summary>As little as the kernel allows: less than its own minimum (SOCK_MIN_SNDBUF, some 4.5 KiB).</summary>
    private const int NoRoom = 1;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly Socket _ours;
    private readonly Socket _theirs;
    private bool _letGo;

    private ConsoleLink(Task vmmEnded, Socket ours, Socket theirs)
    {
        VmmEnded = vmmEnded;
        _ours = ours;
        _theirs = theirs;
    }

    /// <summary>Completes with the VMM that this leads to.</summary>
    public Task VmmEnded { get; }

    public SafeHandle Handle => _ours.SafeHandle;

    /// <summary>What is to be left out of what the VMM says; null when the client hears it for the first time.</summary>
    public ConsoleGreeting? Greeting { get; private set; }

    /// <summary>Connects a VMM's character device, as its listening socket would if the client came to it.</summary>
    /// <exception cref="QmpException">The VMM has no such character device, or it is still connected.</exception>
    public static Task<ConsoleLink> AttachAsync(Vmm vmm, string chardev, CancellationToken cancellationToken) =>
        AttachAsync(vmm, chardev, static link => link.Open(), cancellationToken);

    /// <summary>Connects a VMM that is being prepared, to a client that has been greeted by the one before.</summary>
    public static Task<ConsoleLink> PrepareAsync(Vmm vmm, string chardev, bool plugged, bool telnet, bool monitor, CancellationToken cancellationToken) =>
        AttachAsync(vmm, chardev, link => link.Greeting = new ConsoleGreeting(plugged ? link.Plug() : 0, telnet, monitor), cancellationToken);

    private static async Task<ConsoleLink> AttachAsync(Vmm vmm, string chardev, Action<ConsoleLink> prepare, CancellationToken cancellationToken)
    {
        var (ours, theirs) = UnixSocket.Pair();
        var link = new ConsoleLink(vmm.Ended, ours, theirs);
        try
        {
            Limit(ours, InputRoom);
            prepare(link);
            using var patience = new CancellationTokenSource(Patience);
            while (!await TryAddAsync(vmm, chardev, theirs, patience.IsCancellationRequested, cancellationToken))
            {
                // It has not yet seen that the client before this one is gone.
                await Task.Delay(20, cancellationToken);
            }

            return link;
        }
        catch
        {
            link.Dispose();
            throw;
        }
    }

    /// <summary>One that the program before this one in our process has had.</summary>
    public static ConsoleLink Restore(LinkState state, Task vmmEnded)
    {
        var ours = KeptDescriptors.TakeSocket(state.Ours);
        var theirs = state.Theirs is { } number ? KeptDescriptors.TakeSocket(number) : ours;
        return new ConsoleLink(vmmEnded, ours, theirs)
        {
            _letGo = state.Theirs is null,
            Greeting = state.Greeting is { } greeting ? ConsoleGreeting.Restore(greeting) : null,
        };
    }

    public LinkState Save(KeptDescriptors kept) => new()
    {
        Ours = kept.Keep(_ours.SafeHandle),
        Theirs = _letGo ? null : kept.Keep(_theirs.SafeHandle),
        Greeting = Greeting?.Save(),
    };

    /// <summary>Gives the VMM room to write into.</summary>
    public void Open()
    {
        if (!_letGo)
            Limit(_theirs, OutputRoom);
    }

    /// <summary>Leaves it next to none.</summary>
    public void Narrow() => Limit(_theirs, NoRoom);

    /// <returns>As <see cref="NonBlocking.Send"/>.</returns>
    public int Send(ReadOnlySpan<byte> bytes) => NonBlocking.Send(_ours.SafeHandle, bytes);

    /// <returns>As <see cref="NonBlocking.Receive"/>.</returns>
    public int Receive(Span<byte> buffer) => NonBlocking.Receive(_ours.SafeHandle, buffer);

    /// <summary>Whether the VMM has read all it was sent.</summary>
    public bool IsRead => _letGo || _theirs.Available == 0;

    /// <summary>Everything the VMM was sent and has not read, in one receive: the kernel lets no other reader in between.</summary>
    public byte[] TakeBack()
    {
        if (_letGo)
            return [];
        var buffer = new byte[4 * InputRoom];
        var count = NonBlocking.Receive(_theirs.SafeHandle, buffer);
        return count > 0 ? buffer[..count] : [];
    }

    /// <summary>Closes our hold of the VMM's end: only then can it be seen that the VMM closes it.</summary>
    public void LetGo()
    {
        _letGo = true;
        _theirs.Dispose();
    }

    /// <summary>The client has said all it has to say, and the VMM has read it.</summary>
    public void EndInput()
    {
        _ours.Shutdown(SocketShutdown.Send);
        LetGo();
    }

    public void Dispose()
    {
        _ours.Dispose();
        _theirs.Dispose();
    }

    /// <returns>How many bytes lie in front of what the VMM will write.</returns>
    private int Plug()
    {
        Narrow();
        var all = 0;
        Span<byte> some = stackalloc byte[1024];
        some.Clear();
        while (NonBlocking.Send(_theirs.SafeHandle, some) is > 0 and var count)
            all += count;
        return all;
    }

    private static async Task<bool> TryAddAsync(Vmm vmm, string chardev, Socket theirs, bool last, CancellationToken cancellationToken)
    {
        var name = $"cprsharp-{chardev}";
        await vmm.GiveAsync(name, theirs.SafeHandle, cancellationToken);
        try
        {
            await vmm.ExecuteAsync("add_client", new JsonObject { ["protocol"] = chardev, ["fdname"] = name }, cancellationToken);
            return true;
        }
        catch (QmpException) when (!last)
        {
            return false;
        }
    }

    private static void Limit(Socket socket, int bytes)
    {
        Span<byte> value = stackalloc byte[sizeof(int)];
        BitConverter.TryWriteBytes(value, bytes);
        try
        {
            socket.SetRawSocketOption(SocketLevel, SendBufferForced, value);
        }
        catch (SocketException)
        {
            // Without CAP_NET_ADMIN net.core.wmem_max is the most.
            socket.SetRawSocketOption(SocketLevel, SendBuffer, value);
        }
    }
}
