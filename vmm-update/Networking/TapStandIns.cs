using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Networking;

/// <summary>Tap devices on which nothing happens, for a VMM that is being prepared; and their exchange for the real ones.</summary>
internal sealed class TapStandIns : IDisposable
{
    private readonly List<IsolatedTap> _taps = [];

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
                var tap = loans.Tap(netdev.Key) ?? IsolatedTap.Create(netdev.Count(), TapDevice.FlagsOf(netdev.First().Queue));
                standIns._taps.Add(tap);
                descriptors.AddRange(netdev.Zip(tap.Queues, (t, queue) => new InheritedDescriptor(queue, t.Wanted.Number)));
            }

            return standIns;
        }
        catch (IOException e)
        {
            standIns.Dispose();
            throw new UpdateException(
                "tap-handover", $"the new VMM's stand-in for a tap device cannot be made: {e.Message}", "run the update as root (`cprsharp update`), or the supervisor with CAP_NET_ADMIN and CAP_SYS_ADMIN", e)
            {
                IsRefusal = true,
            };
        }
    }

    /// <summary>Gives a VMM the real devices: one that has loaded the guest and does not run it yet, or one that shall run it again.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public static void Connect(PidFd vmm, VmSpec spec) => Exchange(vmm, spec, t => t.Spare);

    /// <summary>Takes the real devices from a VMM that has stopped the guest.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public static void Disconnect(PidFd vmm, VmSpec spec) => Exchange(vmm, spec, t => t.Quiet);

    private static void Exchange(PidFd vmm, VmSpec spec, Func<TapDescriptor, int> from)
    {
        (int From, int To)[] changes = [.. spec.Descriptors.OfType<TapDescriptor>().Select(t => (from(t), t.Number))];
        if (changes.Length == 0)
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

    /// <summary>Whoever waits for a stand-in waits for nothing after the exchange; it finds something there, and turns to the real one.</summary>
    public void Wake() => _taps.ForEach(t => t.Wake());

    public void Dispose() => _taps.ForEach(t => t.Dispose());
}
