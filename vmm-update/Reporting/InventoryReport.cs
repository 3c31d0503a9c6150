using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>What the passed-through devices of a VM can reach, as far as that can be known from outside.</summary>
/// <param name="Schema">1.</param>
/// <param name="Pid">The VMM.</param>
/// <param name="Version">Its version.</param>
/// <param name="AddressSpaces">One for each that the kernel has; one with what is thought where the kernel could not be asked.</param>
/// <param name="NotProbed">Why the kernel could not be asked; null when it was.</param>
public sealed record InventoryReport(int Schema, int Pid, string Version, ImmutableArray<InventorySpace> AddressSpaces, string? NotProbed);

/// <summary>One address space.</summary>
/// <param name="Iommufd">The descriptor's number in the VMM.</param>
/// <param name="Ioas">The kernel's id of the address space.</param>
/// <param name="Areas">By address.</param>
public sealed record InventorySpace(int? Iommufd, uint? Ioas, ImmutableArray<InventoryEntry> Areas);

/// <summary>One area.</summary>
/// <param name="Start">First address, hexadecimal.</param>
/// <param name="Last">Last address, hexadecimal.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Access">What devices may do: <c>read</c>, <c>readWrite</c>.</param>
/// <param name="What">The memory, or the BAR.</param>
/// <param name="Certainty"><c>confirmed</c>, <c>derived</c>, <c>ambiguous</c>, <c>notMapped</c> or <c>unexplained</c>.</param>
/// <param name="Evidence">Why.</param>
public sealed record InventoryEntry(string Start, string Last, ulong Length, string Access, string What, string Certainty, string Evidence);
