using System.Collections.Immutable;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>What one update does about passed-through devices, whatever its engine. Owns duplicates of the VMM's descriptors.</summary>
internal sealed class PassThroughHandover : IDisposable
{
    private readonly List<BlockingBars> _out = [];
    private ImmutableArray<PassedThroughDevice> _devices = [];
    private Action<IReadOnlyList<TakenOutBar>>? _note;

    /// <summary>Takes the BARs out that would keep the devices from being handed over.</summary>
    /// <param name="old">The VMM that runs the guest.</param>
    /// <param name="devices">As they were inspected.</param>
    /// <param name="note">Writes down what goes, before it does.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task TakeOutAsync(
        Vmm old, ImmutableArray<PassedThroughDevice> devices, Action<IReadOnlyList<TakenOutBar>>? note, CancellationToken cancellationToken)
    {
        if (devices.IsEmpty)
            return;

        _note = note;
        TakeOut(old, await PassThroughReader.PlaceAsync(old, devices, cancellationToken));
    }

    /// <summary>The same for BARs that the guest has moved since: the VMM has mapped them at their new places.</summary>
    public async Task TakeOutMovedAsync(Vmm old, CancellationToken cancellationToken)
    {
        if (_devices.IsEmpty)
            return;

        var now = await PassThroughReader.PlaceAsync(old, _devices, cancellationToken);
        if (!now.SelectMany(d => d.Bars).SequenceEqual(_devices.SelectMany(d => d.Bars)))
            TakeOut(old, now);
    }

    /// <summary>Keeps a VMM that starts from resetting devices; null where it would not.</summary>
    public Task<SyscallGuard?> GuardAsync(Vmm starting) => ResetGuard.BeginAsync(starting.PidFd, _devices);

    /// <summary>Puts the BARs back where the guest has them now.</summary>
    /// <param name="survivor">The VMM that keeps the guest.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <returns>What stays out.</returns>
    public async Task<IReadOnlyList<Finding>> PutBackAsync(Vmm survivor, CancellationToken cancellationToken)
    {
        if (_out.Count == 0)
            return [];

        var now = await PassThroughReader.PlaceAsync(survivor, _devices, cancellationToken);
        return
        [
            .. _out.SelectMany(bars => bars.PutBack(now)).Distinct().Select(bar => Finding.Warn(
                "peer-to-peer", bar.Device, $"BAR {bar.Region} was out for the update and is nowhere in the guest's memory now, so other devices do not reach it", "nothing: QEMU maps it when the guest places it again")),
        ];
    }

    public void Dispose()
    {
        foreach (var bars in _out)
            bars.Dispose();
    }

    private void TakeOut(Vmm old, ImmutableArray<PassedThroughDevice> placed)
    {
        _devices = placed;
        var bars = BlockingBars.Find(old.PidFd, placed);
        _out.Add(bars);
        _note?.Invoke([.. _out.SelectMany(b => b.Mappings).Reverse().DistinctBy(m => (m.Device, m.Region, m.Offset))]);
        bars.TakeOut();
    }
}
