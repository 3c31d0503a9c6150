using System.Collections.Immutable;
using System.Globalization;
using System.Text.RegularExpressions;
using CprSharp.Iommufd;
using CprSharp.Iommufd.Inventory;

namespace CprSharp.VmmUpdate.Inventory;

/// <summary>
/// Reads what QEMU's monitor says of guest memory. There is no QMP command for it: <c>info mtree -f</c> and <c>info ramblock</c> by
/// <c>human-monitor-command</c>. Their text is the same from 7.2 to 11.1, but 7.2 does not say where a block is in its own address space. Pure.
/// </summary>
internal static partial class MemoryText
{
    /// <summary>The address space that devices see where the machine has no IOMMU of its own.</summary>
    public const string SystemMemory = "memory";

    /// <summary>The flat view of an address space, of <c>info mtree -f</c>.</summary>
    /// <param name="text">All of it.</param>
    /// <param name="addressSpace">Its name.</param>
    /// <exception cref="FormatException">It has no such address space.</exception>
    public static ImmutableArray<GuestRegion> Regions(string text, string addressSpace)
    {
        foreach (var view in text.Split("FlatView #", StringSplitOptions.RemoveEmptyEntries))
        {
            if (view.Contains($" AS \"{addressSpace}\",", StringComparison.Ordinal))
                return [.. RegionLine().Matches(view).Select(Region)];
        }

        throw new FormatException($"`info mtree -f` has no address space \"{addressSpace}\"");
    }

    /// <summary>The blocks of <c>info ramblock</c>.</summary>
    /// <exception cref="FormatException">It has none.</exception>
    public static ImmutableArray<MemoryBlock> Blocks(string text)
    {
        ImmutableArray<MemoryBlock> blocks = [.. BlockLine().Matches(text).Select(m => new MemoryBlock(m.Groups["name"].Value, Hex(m.Groups["used"]), m.Groups["hva"].Success ? Hex(m.Groups["hva"]) : null))];
        return blocks.IsEmpty ? throw new FormatException("`info ramblock` names no block of memory") : blocks;
    }

    /// <summary>A region has the name of its memory, a block that of its device as well: <c>0000:00:01.0/vga.vram</c>. As the blocks have it, where there is one.</summary>
    public static GuestRegion Named(GuestRegion region, ImmutableArray<MemoryBlock> blocks)
    {
        if (blocks.Any(b => b.Name == region.Block))
            return region;
        var ending = blocks.Where(b => b.Name.EndsWith($"/{region.Block}", StringComparison.Ordinal)).ToList();
        return ending.Count == 1 ? region with { Block = ending[0].Name } : region;
    }

    private static GuestRegion Region(Match line) => new(
        new IovaRange(Hex(line.Groups["start"]), Hex(line.Groups["last"])),
        line.Groups["type"].Value switch
        {
            "ram" => GuestRegionKind.Ram,
            "rom" => GuestRegionKind.Rom,
            "ramd" => GuestRegionKind.RamDevice,
            _ => GuestRegionKind.Io, // "romd", too: flash that the guest may program, which QEMU maps for no device
        },
        line.Groups["name"].Value,
        line.Groups["offset"].Success ? Hex(line.Groups["offset"]) : 0);

    private static ulong Hex(Group digits) => ulong.Parse(digits.ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    [GeneratedRegex(
        @"^ +(?<start>[0-9a-f]{16})-(?<last>[0-9a-f]{16}) \(prio -?\d+, (?<type>[^)]+)\): (?<name>.+?)(?: @(?<offset>[0-9a-f]{16}))?(?: KVM)?\r?$",
        RegexOptions.Multiline | RegexOptions.ExplicitCapture,
        5000)]
    private static partial Regex RegionLine();

    [GeneratedRegex(
        @"^ *(?<name>\S.*?) +\d+ [KMG]iB +0x[0-9a-f]+ +0x(?<used>[0-9a-f]+) +0x[0-9a-f]+(?: +0x(?<hva>[0-9a-f]+))?",
        RegexOptions.Multiline | RegexOptions.ExplicitCapture,
        5000)]
    private static partial Regex BlockLine();
}
