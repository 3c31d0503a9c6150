using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Supervision;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>The VM's consoles: serves their clients for the VM's life, whichever VMM has the guest.</summary>
/// <remarks>One thread moves all bytes. It waits in poll(2), does nothing that could block, and costs nothing while nobody speaks.</remarks>
internal sealed class ConsoleHub : IAsyncDisposable
{
    /// <summary>How often is looked for what nothing announces, in milliseconds.</summary>
    private const int Look = 100;

    private static readonly TimeSpan AttachDeadline = TimeSpan.FromSeconds(10);

    /// <summary>How long the last words of a guest that has ended may take to their readers.</summary>
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly PollSet _set = new();
    private readonly IReadOnlyList<ConsoleRelay> _relays;
    private readonly List<Task> _attaching = [];
    private readonly TaskCompletionSource _awaited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _quiet = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Thread? _thread;
    private Vmm? _vmm;
    private ILogger? _logger;
    private bool _updating;
    private bool _frozen;
    private bool _ending;
    private bool _stopped;

    private ConsoleHub(IReadOnlyList<ConsoleRelay> relays)
    {
        _relays = relays;
        if (relays.Count == 0)
            return;
        _thread = new Thread(Run, maxStackSize: 256 << 10) { IsBackground = true, Name = "consoles" };
        _thread.Start();
    }

    /// <summary>Whether the guest may not start before clients have come to consoles that wait for them.</summary>
    public bool AwaitsClients
    {
        get
        {
            lock (_lock)
                return _relays.Any(r => r.AwaitsClient);
        }
    }

    /// <summary>Each console's character device and name, as in <c>query-chardev</c>.</summary>
    public IReadOnlyDictionary<string, string> Names
    {
        get
        {
            lock (_lock)
                return _relays.ToDictionary(r => r.Id, r => r.Name, StringComparer.Ordinal);
        }
    }

    /// <summary>What a supervisor's successor needs of them after a crash, by name; stays the hub's.</summary>
    public IReadOnlyList<(string Name, SafeHandle Descriptor)> Unrepeatable =>
        [.. _relays.Where(r => r.Unrepeatable is not null).Select(r => (StoredName(r.Id), r.Unrepeatable!))];

    /// <summary>Opens the consoles' doors.</summary>
    /// <param name="spec">The VM.</param>
    /// <param name="stored">What was kept of <see cref="Unrepeatable"/>.</param>
    /// <param name="logger">Hears of what was kept and is of no use.</param>
    public static ConsoleHub Open(VmSpec spec, StoredDescriptors stored, ILogger logger)
    {
        var relays = new List<ConsoleRelay>();
        try
        {
            foreach (var wanted in spec.Descriptors.OfType<ConsoleDescriptor>())
                relays.Add(new ConsoleRelay(wanted, Door(wanted, stored, logger)));
            return new ConsoleHub(relays);
        }
        catch
        {
            relays.ForEach(r => r.Dispose());
            throw;
        }
    }

    /// <summary>Those that the program before this one in our process has had.</summary>
    /// <param name="spec">The VM.</param>
    /// <param name="states">What was saved.</param>
    /// <param name="vmmEnded">Completes when the VMM that they are connected to ends.</param>
    public static ConsoleHub Restore(VmSpec spec, IReadOnlyList<ConsoleState> states, Task vmmEnded) =>
        new([.. spec.Descriptors.OfType<ConsoleDescriptor>().Select(wanted =>
            states.FirstOrDefault(s => s.Id == wanted.Chardev) is { } state
                ? ConsoleRelay.Restore(wanted, state, vmmEnded)
                : new ConsoleRelay(wanted, IConsoleDoor.Open(wanted.Address)))]);

    /// <summary>Moves nothing any more, and connects nobody; completes when it is so.</summary>
    public async Task FreezeAsync()
    {
        Task[] attaching;
        lock (_lock)
        {
            _updating = true;
            attaching = [.. _attaching];
        }

        await Task.WhenAll(attaching);
        lock (_lock)
            _frozen = true;
        _set.Wake();
    }

    /// <summary>Goes on after <see cref="FreezeAsync"/>.</summary>
    public void Thaw()
    {
        lock (_lock)
            _frozen = _updating = false;
        _set.Wake();
    }

    /// <summary>While frozen: for the program after this one.</summary>
    public ConsoleState[] Save(KeptDescriptors kept)
    {
        lock (_lock)
            return [.. _relays.Select(r => r.Save(kept))];
    }

    /// <summary>Completes when every console that waits for a client has one.</summary>
    public Task ClientsAsync(CancellationToken cancellationToken) => AwaitsClients ? _awaited.Task.WaitAsync(cancellationToken) : Task.CompletedTask;

    /// <summary>From here on clients are connected to this VMM; those that wait are when this returns.</summary>
    public async Task ServeAsync(Vmm vmm, ILogger logger)
    {
        Task[] attaching;
        lock (_lock)
        {
            _vmm = vmm;
            _logger = logger;
            AttachClients();
            attaching = [.. _attaching];
        }

        Follow(vmm);
        await Task.WhenAll(attaching);
    }

    /// <summary>Connects the clients of now to a VMM that is being prepared, too; new ones have to wait for the end of the update.</summary>
    /// <exception cref="QmpException">The VMM does not have one of the consoles.</exception>
    public async Task PrepareAsync(Vmm fresh, VmSpec spec, CancellationToken cancellationToken)
    {
        Task[] attaching;
        lock (_lock)
        {
            _updating = true;
            attaching = [.. _attaching];
        }

        await Task.WhenAll(attaching).WaitAsync(cancellationToken);
        ConsoleRelay[] connected;
        lock (_lock)
            connected = [.. _relays.Where(r => r.IsConnected)];
        foreach (var relay in connected)
        {
            var link = await relay.ConnectAsync(fresh, ConsoleUse.IsPort(spec, relay.Id), cancellationToken);
            lock (_lock)
                relay.Prepared(link);
        }
    }

    /// <summary>Nothing reaches a monitor until disposed.</summary>
    public IDisposable HoldCommands()
    {
        SetHoldsCommands(true);
        return new CommandsHold(this);
    }

    /// <summary>Nothing goes to or comes from the VMM any more, and what it has not read is here.</summary>
    public void Hold() => ForAll(r => r.Hold());

    /// <summary>Goes on with whoever has the guest.</summary>
    public void Release() => ForAll(r => r.Resume());

    /// <summary>The guest has moved.</summary>
    public void Switch(Vmm former, Vmm fresh)
    {
        lock (_lock)
        {
            _vmm = fresh;
            foreach (var relay in _relays)
                relay.Switch();
        }

        _set.Wake();
        Follow(fresh);
        _ = former.Ended.ContinueWith(_ => _set.Wake(), TaskScheduler.Default);
    }

    /// <summary>The update is over, however it went.</summary>
    public void EndUpdate() => ForAll(r => r.DropPrepared(), () => _updating = false);

    public async ValueTask DisposeAsync()
    {
        if (_thread is not null)
        {
            lock (_lock)
                _ending = true;
            _set.Wake();
            await ((Task)_quiet.Task.WaitAsync(Farewell)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            lock (_lock)
                _stopped = true;
            _set.Wake();
            _thread.Join();
        }

        foreach (var relay in _relays)
            relay.Dispose();
        _set.Dispose();
    }

    /// <summary>That a VMM closes its end when it ends cannot be seen while its end is held here.</summary>
    private void Follow(Vmm vmm) => _ = vmm.Exited.ContinueWith(
        _ => ForAll(r =>
        {
            if (_vmm == vmm)
                r.VmmDied();
        }),
        TaskScheduler.Default);

    private void ForAll(Action<ConsoleRelay> action, Action? before = null)
    {
        lock (_lock)
        {
            before?.Invoke();
            foreach (var relay in _relays)
                action(relay);
        }

        _set.Wake();
    }

    private void SetHoldsCommands(bool hold) => ForAll(r => r.HoldsCommands = hold);

    private void Run()
    {
        while (true)
        {
            bool looks;
            lock (_lock)
            {
                if (_stopped)
                    return;
                looks = !_frozen && _relays.Any(r => r.NeedsLooking(Accepting));
                _set.Clear();
                foreach (var relay in _frozen ? [] : _relays)
                    relay.Watch(_set, Accepting);
            }

            _set.Wait(looks ? Look : -1);
            lock (_lock)
            {
                if (_frozen && !_stopped)
                    continue;
                foreach (var relay in _relays)
                    relay.Advance(_set, Accepting);
                AttachClients();
                if (!_relays.Any(r => r.AwaitsClient))
                    _awaited.TrySetResult();
                if (_ending && !_relays.Any(r => r.HasClient))
                    _quiet.TrySetResult();
            }
        }
    }

    private static IConsoleDoor Door(ConsoleDescriptor wanted, StoredDescriptors stored, ILogger logger)
    {
        var name = StoredName(wanted.Chardev);
        if (stored.Take(name) is { } kept)
        {
            try
            {
                return IConsoleDoor.Open(wanted.Address, kept);
            }
            catch (SyscallException e)
            {
                kept.Dispose();
                SupervisorLog.StoredDescriptorRefused(logger, name, e.Message);
            }
        }

        return IConsoleDoor.Open(wanted.Address);
    }

    private static string StoredName(string chardev) => $"console-{chardev}";

    private bool Accepting => !_updating && !_ending;

    private void AttachClients()
    {
        _attaching.RemoveAll(t => t.IsCompleted);
        if (_vmm is not { } vmm || !Accepting)
            return;
        foreach (var relay in _relays.Where(r => r.WantsLink))
        {
            relay.IsAttaching = true;
            _attaching.Add(Task.Run(() => AttachAsync(relay, vmm)));
        }
    }

    private async Task AttachAsync(ConsoleRelay relay, Vmm vmm)
    {
        ConsoleLink? link = null;
        try
        {
            using var deadline = new CancellationTokenSource(AttachDeadline);
            link = await ConsoleLink.AttachAsync(vmm, relay.Id, deadline.Token);
        }
        catch (Exception e) when (e is IOException or QmpException or OperationCanceledException or ObjectDisposedException)
        {
            if (_logger is { } logger)
                SupervisorLog.ClientTrouble(logger, relay.Id, e.Message);
        }

        lock (_lock)
        {
            relay.IsAttaching = false;
            if (link is null)
                relay.Close();
            else
                relay.Attached(link);
        }

        _set.Wake();
    }

    private sealed class CommandsHold(ConsoleHub hub) : IDisposable
    {
        public void Dispose() => hub.SetHoldsCommands(false);
    }
}
