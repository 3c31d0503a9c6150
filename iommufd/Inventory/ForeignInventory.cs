using System.Collections.Immutable;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Inventory;

/// <summary>What a stretch of guest addresses is (a line of QEMU's <c>info mtree -f</c>).</summary>
public enum GuestRegionKind
{
    /// <summary>Memory.</summary>
    Ram,

    /// <summary>Memory that the guest cannot write to.</summary>
    Rom,

    /// <summary>A device's own memory, mapped: a BAR.</summary>
    RamDevice,

    /// <summary>Registers, or nothing: devices cannot reach it.</summary>
    Io,
}

/// <summary>A stretch of guest addresses.</summary>
/// <param name="Addresses">Where the guest sees it.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Block">The memory block's name, for example <c>pc.ram</c>, or the region's.</param>
/// <param name="Offset">Bytes into the block.</param>
public sealed record GuestRegion(IovaRange Addresses, GuestRegionKind Kind, string Block, ulong Offset);

/// <summary>A block of guest memory as the VMM has it (<c>query-memdev</c>, <c>info ramblock</c>).</summary>
/// <param name="Name">Its name.</param>
/// <param name="Size">Bytes.</param>
/// <param name="HostAddress">Where it is in the VMM's address space; null when the VMM does not tell.</param>
/// <param name="File">Its file, where that is known; else it is looked for in the VMM's mappings.</param>
public sealed record MemoryBlock(string Name, ulong Size, ulong? HostAddress = null, FileIdentity? File = null);

/// <summary>A BAR as the guest has placed it (<c>query-pci</c>).</summary>
/// <param name="Device">The device on the host, for example <c>0000:00:03.0</c>.</param>
/// <param name="Region">The BAR, 0 to 5.</param>
/// <param name="Addresses">Where the guest sees it.</param>
/// <param name="Part">What of the BAR that is.</param>
public sealed record GuestBar(string Device, int Region, IovaRange Addresses, VfioRegionPart Part);

/// <summary>How a VMM maps memory files.</summary>
public enum ForeignMapping
{
    /// <summary>Not known. Taken as by address, which is the case that needs more care.</summary>
    Unknown,

    /// <summary>IOMMU_IOAS_MAP_FILE (QEMU since 10.1, Cloud Hypervisor).</summary>
    ByFile,

    /// <summary>IOMMU_IOAS_MAP.</summary>
    ByAddress,
}

/// <summary>All that is known of a VMM that this library did not start.</summary>
/// <param name="Pid">The VMM.</param>
/// <param name="Regions">Its guest's addresses: one flat view.</param>
/// <param name="Blocks">Its memory.</param>
/// <param name="Bars">The BARs of its passed-through devices.</param>
/// <param name="Maps">Its mappings (<c>/proc/PID/maps</c>).</param>
/// <param name="Mapping">How it maps files.</param>
/// <param name="Observed">What the kernel shows of the address space; null when it was not asked.</param>
public sealed record ForeignFacts(
    int Pid,
    IReadOnlyList<GuestRegion> Regions,
    IReadOnlyList<MemoryBlock> Blocks,
    IReadOnlyList<GuestBar> Bars,
    IReadOnlyList<MapEntry> Maps,
    ForeignMapping Mapping,
    IReadOnlyList<ObservedExtent>? Observed);

/// <summary>How sure it is what an area is.</summary>
public enum Certainty
{
    /// <summary>The source is known, and the kernel has it mapped.</summary>
    Confirmed,

    /// <summary>The source is known; the kernel was not asked.</summary>
    Derived,

    /// <summary>The kernel has it mapped, and several sources could be behind it.</summary>
    Ambiguous,

    /// <summary>It should be mapped, and the kernel has not mapped it, or not all of it.</summary>
    NotMapped,

    /// <summary>The kernel has it mapped, and nothing that is known explains it.</summary>
    Unexplained,
}

/// <summary>An area of a foreign VMM.</summary>
/// <param name="Area">What it is; with <see cref="UnknownBacking"/> where nobody knows.</param>
/// <param name="Bar">The BAR that it shows.</param>
/// <param name="Certainty">How sure that is.</param>
/// <param name="Evidence">Why, for people.</param>
public sealed record InventoryArea(Area Area, GuestBar? Bar, Certainty Certainty, string Evidence);

/// <summary>Rebuilds what a VMM has mapped from what can be known from outside. Pure.</summary>
public static class ForeignInventory
{
    /// <summary>Rebuilds one address space.</summary>
    /// <remarks>Like QEMU's vfio_listener_region_add: RAM, ROM (read-only) and BARs are mapped, whole pages only.</remarks>
    /// <returns>Areas by address. What is contiguous is one area, since the kernel does not show borders.</returns>
    public static ImmutableArray<InventoryArea> Rebuild(ForeignFacts facts)
    {
        ArgumentNullException.ThrowIfNull(facts);
        var memory = facts.Regions
            .Where(region => region.Kind is GuestRegionKind.Ram or GuestRegionKind.Rom)
            .SelectMany(region => Memory(region, facts));
        var bars = facts.Bars.SelectMany(bar => Bar(bar, facts));
        var known = memory.Concat(bars).OrderBy(area => area.Area.Range.Start).ToList();
        var unexplained = (facts.Observed ?? [])
            .SelectMany(extent => Differences.Subtract(extent.Range, known.Select(area => area.Area.Range)).Select(range => (range, extent.WritableMemory)))
            .Select(one => new InventoryArea(
                new Area(one.range, one.WritableMemory ? MapAccess.ReadWrite : MapAccess.Read, new UnknownBacking(), 0),
                null,
                Certainty.Unexplained,
                "the kernel has it mapped; neither the guest's memory nor a BAR is known there"));
        return [.. known.Concat(unexplained).OrderBy(area => area.Area.Range.Start)];
    }

    private static IEnumerable<InventoryArea> Memory(GuestRegion region, ForeignFacts facts)
    {
        if (region.Addresses.WholePages() is not { } range)
            yield break;
        var access = region.Kind == GuestRegionKind.Rom ? MapAccess.Read : MapAccess.ReadWrite;
        var offset = region.Offset + (range.Start - region.Addresses.Start);
        var (sources, evidence) = Sources(region.Block, facts);
        if (sources.Count != 1)
        {
            yield return Judge(new Area(range, access, new UnknownBacking(), 0), null, sources.Count, evidence, facts);
            yield break;
        }

        foreach (var piece in Pieces(range, access, sources[0] + offset, facts))
            yield return Judge(piece, null, 1, evidence, facts);
    }

    /// <summary>Where the block may begin in the VMM's address space.</summary>
    private static (IReadOnlyList<ulong> Starts, string Evidence) Sources(string name, ForeignFacts facts)
    {
        if (facts.Blocks.FirstOrDefault(block => block.Name == name) is not { } block)
            return ([], $"the VMM names no memory block {name}");
        if (block.HostAddress is { } address)
            return ([address], $"{name} is at 0x{address:x} of process {facts.Pid}");
        if (block.File is { } file)
        {
            var starts = facts.Maps.Where(map => Identity(map) == file && map.Offset == 0).Select(map => map.Start).ToList();
            return (starts, $"{name} is {file}, which process {facts.Pid} has mapped {Count(starts.Count, "time")}");
        }

        var fitting = Runs(facts.Maps).Where(run => run.Length == block.Size).Select(run => run.Start).ToList();
        return (fitting, $"{Count(fitting.Count, "mapping")} of process {facts.Pid} {(fitting.Count == 1 ? "is" : "are")} as long as {name}");
    }

    /// <summary>The memory from an address on, piece by piece of the VMM's mappings.</summary>
    private static IEnumerable<Area> Pieces(IovaRange range, MapAccess access, ulong address, ForeignFacts facts)
    {
        Area? open = null;
        for (ulong done = 0; done < range.Length;)
        {
            var at = address + done;
            var map = facts.Maps.FirstOrDefault(map => at >= map.Start && at < map.End);
            var length = Math.Min(range.Length - done, map is null ? range.Length - done : map.End - at);
            var piece = new Area(
                IovaRange.Of(range.Start + done, length),
                access,
                map is { Shared: true, Inode: not 0 } && facts.Mapping == ForeignMapping.ByFile
                    ? new FileBacking(Identity(map), map.Offset + (at - map.Start))
                    : new VirtualBacking(facts.Pid, at),
                0);
            if (open is not null && open.Backing.At(open.Range.Length) == piece.Backing)
            {
                open = open with { Range = new IovaRange(open.Range.Start, piece.Range.Last) };
            }
            else
            {
                if (open is not null)
                    yield return open;
                open = piece;
            }

            done += length;
        }

        if (open is not null)
            yield return open;
    }

    private static IEnumerable<InventoryArea> Bar(GuestBar bar, ForeignFacts facts)
    {
        // What is left of a BAR beside its MSI-X table begins, or ends, within a page.
        if (bar.Addresses.WholePages() is not { } range)
            yield break;
        var mapped = bar with { Addresses = range, Part = new VfioRegionPart(bar.Part.Offset + (range.Start - bar.Addresses.Start), range.Length) };
        yield return Judge(
            new Area(range, MapAccess.ReadWrite, new UnknownBacking(), 0), mapped, 1, $"region {bar.Region} of {bar.Device} is placed there", facts);
    }

    private static InventoryArea Judge(Area area, GuestBar? bar, int sources, string evidence, ForeignFacts facts)
    {
        if (facts.Observed is null)
            return new InventoryArea(area, bar, sources == 1 ? Certainty.Derived : Certainty.Ambiguous, $"{evidence}; the kernel was not asked");
        var holes = Differences.Subtract(area.Range, facts.Observed.Select(extent => extent.Range)).ToList();
        if (holes.Count > 0)
            return new InventoryArea(area, bar, Certainty.NotMapped, $"{evidence}; the kernel has nothing mapped at {string.Join(", ", holes)}");
        return new InventoryArea(
            area, bar, sources == 1 ? Certainty.Confirmed : Certainty.Ambiguous, $"{evidence}; the kernel has it mapped");
    }

    private static IEnumerable<(ulong Start, ulong Length)> Runs(IReadOnlyList<MapEntry> maps)
    {
        // One mapping may be split by madvise or mprotect: joined again where file and offset go on.
        (ulong Start, MapEntry Last)? open = null;
        foreach (var map in maps.OrderBy(map => map.Start))
        {
            if (open is { } run && run.Last.End == map.Start && run.Last.Shared == map.Shared && Identity(run.Last) == Identity(map)
                && (map.Inode == 0 || run.Last.Offset + run.Last.Length == map.Offset))
            {
                open = (run.Start, map);
                continue;
            }

            if (open is { } ended)
                yield return (ended.Start, ended.Last.End - ended.Start);
            open = (map.Start, map);
        }

        if (open is { } last)
            yield return (last.Start, last.Last.End - last.Start);
    }

    private static FileIdentity Identity(MapEntry map) => new(map.Device, map.Inode);

    private static string Count(int number, string what) => number == 1 ? $"1 {what}" : $"{number} {what}s";
}
