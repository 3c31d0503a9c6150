using System.Collections.Immutable;
using CprSharp.Iommufd;
using CprSharp.Iommufd.Changes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>Puts BARs back that a supervisor had taken out which is gone.</summary>
internal static class LostBars
{
    /// <summary>Puts them back where the guest has them now. Those that are in stay; a guest without peer-to-peer is better than none, so what fails is only said.</summary>
    /// <param name="keeper">The VMM that keeps the guest.</param>
    /// <param name="taken">What the journal names.</param>
    /// <param name="fromKeeper">Whether they were taken out on descriptors of the keeper, whose numbers the journal has.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public static async Task<IReadOnlyList<Finding>> PutBackAsync(
        Vmm keeper, IReadOnlyList<TakenOutBar> taken, bool fromKeeper, CancellationToken cancellationToken)
    {
        try
        {
            var devices = taken.Select(t => new PassedThroughDevice(t.Device, "vfio-pci", HasId: true, t.Host, ByIommufd: true, [])).DistinctBy(d => d.Name);
            var now = await PassThroughReader.PlaceAsync(keeper, [.. devices], cancellationToken);
            using var descriptors = PassThroughDescriptors.Duplicate(keeper.PidFd, now);
            return [.. taken.Select(bar => PutBack(bar, now, descriptors, fromKeeper)).OfType<Finding>()];
        }
        catch (Exception e) when (e is UpdateException or SyscallException or IommufdException)
        {
            return [Out(string.Join(", ", taken.Select(t => t.Device).Distinct()), e.Message)];
        }
    }

    private static Finding? PutBack(TakenOutBar bar, ImmutableArray<PassedThroughDevice> now, PassThroughDescriptors descriptors, bool fromKeeper)
    {
        if (now.First(d => d.Name == bar.Device).Place(bar.Region, bar.Offset, bar.Length) is not { } range)
            return null;
        if (descriptors.Devices.FirstOrDefault(d => d.Device.Name == bar.Device).Handle is not { } device)
            return null;   // unplugged

        // The old VMM's numbers say nothing of the new one's descriptors; but there is hardly ever more than one.
        var contexts = descriptors.Contexts.Where(c => descriptors.Contexts.Count == 1 || (fromKeeper && c.Number == bar.Iommufd)).ToList();
        if (contexts.Count != 1)
            return Out(bar.Device, $"the VMM has {descriptors.Contexts.Count} iommufds, and which one had BAR {bar.Region} is not known any more");
        try
        {
            TakenOutBars.PutBackLost(contexts[0].Context, new BarMapping(new IoasId(bar.Ioas), range, MapAccess.ReadWrite, device, bar.Region, bar.Offset));
            return null;
        }
        catch (IommufdException e)
        {
            return Out(bar.Device, e.Message);
        }
    }

    /// <summary>Of a BAR that is not mapped for the other devices any more.</summary>
    public static Finding Out(string device, string why) =>
        Finding.Warn("peer-to-peer", device, $"other devices cannot reach its BARs, which were out for the update and could not be put back: {why}", "unbind and bind the device's driver in the guest: QEMU then maps them again");
}
