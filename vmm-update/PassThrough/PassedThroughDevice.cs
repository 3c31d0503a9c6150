using System.Collections.Immutable;
using CprSharp.Iommufd;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>A BAR where the guest has placed it.</summary>
/// <param name="Index">0 to 5.</param>
/// <param name="Address">Guest address.</param>
/// <param name="Size">Bytes.</param>
internal sealed record PlacedBar(int Index, ulong Address, ulong Size);

/// <summary>A host device that the guest drives itself.</summary>
/// <param name="Name">Its id, or its place in the QOM tree.</param>
/// <param name="Type">QEMU's device type, e.g. <c>vfio-pci</c>.</param>
/// <param name="HasId">Whether it was given an id.</param>
/// <param name="Host">Its PCI address on the host; empty when QEMU was given a descriptor and does not know.</param>
/// <param name="ByIommufd">Whether it is attached through iommufd, and not through a legacy container.</param>
/// <param name="Bars">Its BARs that the guest has placed.</param>
internal sealed record PassedThroughDevice(string Name, string Type, bool HasId, string Host, bool ByIommufd, ImmutableArray<PlacedBar> Bars)
{
    /// <summary>Whether it is made by a driver of the host (mdev), out of part of a device or of nothing.</summary>
    public bool IsMediated { get; init; }

    /// <summary>Whether it can be reset by itself (FLR). Where it cannot, a QEMU that starts tries to reset all that is on its bus: see <see cref="ResetGuard"/>.</summary>
    public bool HasFunctionLevelReset { get; init; }

    /// <summary>Where the guest has part of a BAR; null when it has not placed it.</summary>
    public IovaRange? Place(int region, ulong offset, ulong length) =>
        Bars.FirstOrDefault(b => b.Index == region) is { } bar ? IovaRange.Of(bar.Address + offset, length) : null;
}
