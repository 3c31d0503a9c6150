using System.Collections.Immutable;
using CprSharp.Iommufd.Model;

namespace CprSharp.Iommufd.Inventory;

/// <summary>How two pictures of a context, or a picture and the kernel, differ.</summary>
public enum DifferenceKind
{
    /// <summary>An address space is not there.</summary>
    MissingIoas,

    /// <summary>An address space that should not be there.</summary>
    UnexpectedIoas,

    /// <summary>Should be mapped, and is not, or not wholly.</summary>
    NotMapped,

    /// <summary>Is mapped, and should not be.</summary>
    UnexpectedlyMapped,

    /// <summary>Other borders: as much memory in other areas.</summary>
    OtherBorders,

    /// <summary>Devices may do something else with it.</summary>
    OtherAccess,

    /// <summary>Other memory.</summary>
    OtherMemory,

    /// <summary>Pinned apart instead of together, or the other way round.</summary>
    OtherSharing,

    /// <summary>Another list of guaranteed addresses.</summary>
    OtherAllowedIovas,

    /// <summary>Another setting.</summary>
    OtherOption,
}

/// <summary>One difference.</summary>
/// <param name="Kind">What kind.</param>
/// <param name="Ioas">Where; by the expected picture's id, for an unexpected address space by the actual one's. Null for the context as a whole.</param>
/// <param name="Range">Which addresses.</param>
/// <param name="Description">For people.</param>
public sealed record Difference(DifferenceKind Kind, IoasId? Ioas, IovaRange? Range, string Description)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Kind}: {Ioas?.ToString() ?? "context"}{(Range is { } range ? $", IOVA {range}" : "")}: {Description}";
}

/// <summary>Compares. Pure.</summary>
public static class Differences
{
    /// <summary>Compares two pictures.</summary>
    /// <param name="expected">What should be.</param>
    /// <param name="actual">What is.</param>
    /// <param name="ids">Address spaces of the expected picture to those of the actual one; null where ids are the same.</param>
    /// <param name="sameMemory">Whether two backings are the same memory; null for equality. A replay may have new dma-bufs.</param>
    public static ImmutableArray<Difference> Between(
        AddressSpaces expected, AddressSpaces actual, IReadOnlyDictionary<IoasId, IoasId>? ids = null, Func<Backing, Backing, bool>? sameMemory = null)
    {
        ArgumentNullException.ThrowIfNull(expected);
        ArgumentNullException.ThrowIfNull(actual);
        sameMemory ??= static (a, b) => a == b;
        var differences = ImmutableArray.CreateBuilder<Difference>();
        var seen = new HashSet<IoasId>();
        foreach (var wanted in expected.Ioases.Values)
        {
            var id = ids is null ? wanted.Id : ids.TryGetValue(wanted.Id, out var mapped) ? mapped : default;
            if (actual.Ioases.TryGetValue(id.Value, out var there))
            {
                seen.Add(id);
                Compare(wanted, there, sameMemory, differences);
            }
            else
            {
                differences.Add(new Difference(DifferenceKind.MissingIoas, wanted.Id, null, $"not there; it has {wanted.Areas.Count} areas"));
            }
        }

        foreach (var id in actual.Ioases.Values.Select(ioas => ioas.Id).Where(id => !seen.Contains(id)))
            differences.Add(new Difference(DifferenceKind.UnexpectedIoas, id, null, "nobody knows of it"));
        if (expected.AccountPerProcess != actual.AccountPerProcess)
            differences.Add(new Difference(DifferenceKind.OtherOption, null, null, $"accounting per process: {expected.AccountPerProcess} became {actual.AccountPerProcess}"));
        Sharing(expected, actual, ids, differences);
        return differences.ToImmutable();
    }

    /// <summary>Compares a picture with what the kernel shows.</summary>
    /// <param name="expected">What should be.</param>
    /// <param name="observed">What a <see cref="ContextProbe"/> found, by address space.</param>
    public static ImmutableArray<Difference> Between(AddressSpaces expected, IReadOnlyDictionary<IoasId, IReadOnlyList<ObservedExtent>> observed)
    {
        ArgumentNullException.ThrowIfNull(expected);
        ArgumentNullException.ThrowIfNull(observed);
        var differences = ImmutableArray.CreateBuilder<Difference>();
        foreach (var ioas in expected.Ioases.Values)
        {
            if (observed.TryGetValue(ioas.Id, out var extents))
                Compare(ioas, extents, differences);
            else
                differences.Add(new Difference(DifferenceKind.MissingIoas, ioas.Id, null, $"the kernel has none of this id; it should have {ioas.Areas.Count} areas"));
        }

        foreach (var id in observed.Keys.Where(id => !expected.Ioases.ContainsKey(id.Value)))
            differences.Add(new Difference(DifferenceKind.UnexpectedIoas, id, null, "the kernel has it, and nobody knows of it"));
        return differences.ToImmutable();
    }

    private static void Compare(AddressSpace wanted, AddressSpace there, Func<Backing, Backing, bool> sameMemory, ImmutableArray<Difference>.Builder differences)
    {
        if (!wanted.Allowed.OrderBy(range => range.Start).SequenceEqual(there.Allowed.OrderBy(range => range.Start)))
            differences.Add(new Difference(DifferenceKind.OtherAllowedIovas, wanted.Id, null, $"[{string.Join(", ", wanted.Allowed)}] became [{string.Join(", ", there.Allowed)}]"));
        if (wanted.HugePages != there.HugePages)
            differences.Add(new Difference(DifferenceKind.OtherOption, wanted.Id, null, $"huge pages: {wanted.HugePages} became {there.HugePages}"));
        foreach (var area in wanted.Areas)
        {
            var (kind, text) = there.At(area.Range.Start) switch
            {
                null => (DifferenceKind.NotMapped, $"{area.Backing} is not mapped"),
                var other when other.Range != area.Range => (DifferenceKind.OtherBorders, $"the area there is {other}"),
                var other when other.Access != area.Access => (DifferenceKind.OtherAccess, $"{area.Access} became {other.Access}"),
                var other when !sameMemory(area.Backing, other.Backing) => (DifferenceKind.OtherMemory, $"{area.Backing} became {other.Backing}"),
                _ => (default(DifferenceKind), null),
            };
            if (text is not null)
                differences.Add(new Difference(kind, wanted.Id, area.Range, text));
        }

        foreach (var area in there.Areas.Where(area => !wanted.In(area.Range).Any()))
            differences.Add(new Difference(DifferenceKind.UnexpectedlyMapped, wanted.Id, area.Range, $"{area.Backing}"));
    }

    private static void Compare(AddressSpace wanted, IReadOnlyList<ObservedExtent> extents, ImmutableArray<Difference>.Builder differences)
    {
        foreach (var area in wanted.Areas)
        {
            foreach (var hole in Subtract(area.Range, extents.Select(extent => extent.Range)))
                differences.Add(new Difference(DifferenceKind.NotMapped, wanted.Id, hole, $"the kernel has a hole in {area}"));
            // Read-only memory cannot become writable; the opposite may be a read-only copy, which cannot be seen.
            if (area.Access.HasFlag(MapAccess.Write) && extents.Any(extent => extent.Range.Overlaps(area.Range) && !extent.WritableMemory))
                differences.Add(new Difference(DifferenceKind.OtherAccess, wanted.Id, area.Range, "the kernel has it read-only, at least in part"));
        }

        foreach (var extent in extents)
        {
            foreach (var surplus in Subtract(extent.Range, wanted.In(extent.Range).Select(area => area.Range)))
                differences.Add(new Difference(DifferenceKind.UnexpectedlyMapped, wanted.Id, surplus, "mapped by somebody else"));
        }
    }

    /// <summary>Two areas that share a pin in one picture must do so in the other, because memory is charged once per pin.</summary>
    private static void Sharing(AddressSpaces expected, AddressSpaces actual, IReadOnlyDictionary<IoasId, IoasId>? ids, ImmutableArray<Difference>.Builder differences)
    {
        var pairs = expected.Areas
            .Select(one => (one.Ioas, Wanted: one.Area, There: Find(one.Ioas)?.At(one.Area.Range.Start)))
            .Where(one => one.There is not null && one.Wanted.Pages != 0 && one.There.Pages != 0)
            .ToList();
        var apart = pairs.GroupBy(one => one.Wanted.Pages).Where(group => group.Select(one => one.There!.Pages).Distinct().Count() > 1);
        var together = pairs.GroupBy(one => one.There!.Pages).Where(group => group.Select(one => one.Wanted.Pages).Distinct().Count() > 1);
        foreach (var group in apart)
            differences.Add(new Difference(DifferenceKind.OtherSharing, group.First().Ioas, group.First().Wanted.Range, $"{group.Count()} areas shared one pin and no longer do"));
        foreach (var group in together)
            differences.Add(new Difference(DifferenceKind.OtherSharing, group.First().Ioas, group.First().Wanted.Range, $"{group.Count()} areas share a pin that had their own"));

        AddressSpace? Find(IoasId id) =>
            (ids is null ? id : ids.TryGetValue(id, out var mapped) ? mapped : default) is var target && actual.Ioases.TryGetValue(target.Value, out var ioas) ? ioas : null;
    }

    /// <summary>What of a range is in none of the others.</summary>
    internal static IEnumerable<IovaRange> Subtract(IovaRange range, IEnumerable<IovaRange> others)
    {
        var start = range.Start;
        foreach (var other in others.Where(range.Overlaps).OrderBy(other => other.Start))
        {
            if (other.Start > start)
                yield return new IovaRange(start, other.Start - 1);
            if (other.Last >= range.Last)
                yield break;
            start = Math.Max(start, other.Last + 1);
        }

        yield return new IovaRange(start, range.Last);
    }
}
