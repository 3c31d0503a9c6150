namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>A mapped BAR, or part of one, that an update takes out; with all that it takes to put it back. Stored in the update's journal.</summary>
/// <param name="Iommufd">The descriptor's number in the old VMM.</param>
/// <param name="Ioas">The address space.</param>
/// <param name="Iova">Where the devices see it.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Device">The device's id, by which the VMM says where the guest has its BARs.</param>
/// <param name="Host">Its PCI address on the host.</param>
/// <param name="Region">The BAR, 0 to 5.</param>
/// <param name="Offset">Bytes into it.</param>
internal sealed record TakenOutBar(int Iommufd, uint Ioas, ulong Iova, ulong Length, string Device, string Host, int Region, ulong Offset);
