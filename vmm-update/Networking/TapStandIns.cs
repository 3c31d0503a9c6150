using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Networking;

/// <summary>Tap devices on which nothing happens, for a VMM that is being prepared; and their exchange for the real ones.</summary>
/// <remarks>The exchange is in the pause: loops, since .NET compiles LINQ's iterators over value types at their first use.</remarks>
internal sealed class TapStandIns : IDisposable
{
    private readonly List<StandIn> _standIns = [];

    private TapStandIns(List<InheritedDescriptor> descriptors) => Descriptors = descriptors;

    /// <summary>At the numbers of the real ones.</summary>
    public IReadOnlyList<InheritedDescriptor> Descriptors { get; }

    /// <summary>Makes one for every queue, of the same kind, or takes those that were lent.</summary>
    /// <exception cref="UpdateException">A missing privilege.</exception>
    public static TapStandIns Create(IEnumerable<(TapDescriptor Wanted, SafeFileHandle Queue)> taps, Loans loans)
    {
        var descriptors = new List<InheritedDescriptor>();
        var standIns = new TapStandIns(descriptors);
        try
        {
            foreach (var netdev in taps.GroupBy(t => t.Wanted.Netdev))
            {
                SafeFileHandle[] real = [.. netdev.Select(t => t.Queue)];
                var tap = Make(netdev.Key, real.Length, real[0], loans);
                standIns._standIns.Add(new StandIn(tap, real));
                descriptors.AddRange(netdev.Zip(tap.Queues, (t, queue) => new InheritedDescriptor(queue, t.Wanted.Number)));
            }

            return standIns;
        }
        catch (IOException e)
        {
            standIns.Dispose();
            throw Refusal(e);
        }
    }

    /// <summary>One for a network backend, of its kind, or one that was lent.</summary>
    public static IsolatedTap Make(string netdev, int queues, SafeFileHandle like, Loans loans) =>
        loans.Tap(netdev) ?? IsolatedTap.Create(queues, TapDevice.FlagsOf(like));

    /// <summary>What to say when it cannot be made.</summary>
    public static UpdateException Refusal(Exception e) => new(
        "tap-handover", $"a stand-in for a tap device cannot be made: {e.Message}", "run the update as root (`cprsharp update`), or the supervisor with CAP_NET_ADMIN and CAP_SYS_ADMIN", e)
    {
        IsRefusal = true,
    };

    /// <summary>Gives a VMM the real devices: one that has loaded the guest and does not run it yet, or one that shall run it again.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public static void Connect(PidFd vmm, VmSpec spec)
    {
        var changes = new List<(int From, int To)>();
        foreach (var descriptor in spec.Descriptors)
        {
            if (descriptor is TapDescriptor tap)
                changes.Add((tap.Spare, tap.Number));
        }

        Exchange(vmm, changes);
    }

    /// <summary>Gives a VMM whose supervisor was lost the real devices, whatever it has had.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public static void Reconnect(PidFd vmm, VmSpec spec)
    {
        TapDescriptor[] taps = [.. spec.Descriptors.OfType<TapDescriptor>()];
        var before = taps.Select(t => (Tap: t, Had: vmm.GetDescriptor(t.Number))).ToArray();
        try
        {
            Connect(vmm, spec);

            // It waits for a frame on what it had. On the real device one comes by itself.
            foreach (var netdev in before.GroupBy(b => b.Tap.Netdev, StringComparer.Ordinal))
            {
                using var real = vmm.GetDescriptor(netdev.First().Tap.Spare);
                if (TapDevice.NameOf(netdev.First().Had) == IsolatedTap.DeviceName && TapDevice.NameOf(real) != IsolatedTap.DeviceName)
                    IsolatedTap.Wake(netdev.First().Had, netdev.Count());
            }
        }
        catch (IOException e)
        {
            throw new UpdateException("tap-handover", $"the tap devices cannot be handed back: {e.Message}", "the supervisor needs CAP_NET_ADMIN and CAP_SYS_ADMIN", e);
        }
        finally
        {
            foreach (var (_, had) in before)
                had.Dispose();
        }
    }

    /// <summary>Makes each number of the VMM's another one's file.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public static void Exchange(PidFd vmm, IReadOnlyList<(int From, int To)> changes)
    {
        if (changes.Count == 0)
            return;
        try
        {
            DescriptorTable.Duplicate(vmm, changes);
        }
        catch (Exception e) when (e is IOException or TimeoutException or PlatformNotSupportedException)
        {
            throw new UpdateException("tap-handover", $"the tap devices cannot be handed over: {e.Message}", "the supervisor needs the right to trace its VMMs (kernel.yama.ptrace_scope, CAP_SYS_PTRACE)", e);
        }
    }

    /// <summary>Sets on the real devices what the VMM has set on these while it loaded the guest: what the guest's drivers have asked for.</summary>
    /// <exception cref="UpdateException">They do not take it.</exception>
    public void PassSettingsOn()
    {
        try
        {
            foreach (var standIn in _standIns)
                standIn.Tap.Settings().Apply(standIn.Real);
        }
        catch (IOException e)
        {
            throw new UpdateException("tap-handover", $"a tap device does not take the guest's settings: {e.Message}", "see the kernel's log", e);
        }
    }

    /// <summary>Whoever waits for a stand-in waits for nothing after the exchange; it finds something there, and turns to the real one.</summary>
    public void Wake() => _standIns.ForEach(s => s.Tap.Wake());

    public void Dispose() => _standIns.ForEach(s => s.Tap.Dispose());

    /// <param name="Tap">Owned.</param>
    /// <param name="Real">What it stands for: the queues of one network backend, in order.</param>
    private sealed record StandIn(IsolatedTap Tap, SafeFileHandle[] Real);
}
