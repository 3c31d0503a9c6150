using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Model;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.Iommufd.Tests.Model;

public sealed class AddressSpacesTests
{
    private const ulong Page = Generators.Page;
    private static readonly IoasId One = new(1);

    [Fact]
    public void A_picture_agrees_with_a_list_of_pages()
    {
        // The oracle knows nothing of areas: every page of every address space, and what is there.
        Prop.ForAll(Generators.History.ToArbitrary(), history =>
        {
            var pages = new Dictionary<(uint Ioas, ulong Iova), (Backing Backing, MapAccess Access)>();
            foreach (var (operation, answer) in history)
            {
                switch (operation)
                {
                    case MapOperation map:
                        for (ulong at = 0; at < map.Length; at += Page)
                            pages[(map.Ioas.Value, answer + at)] = (map.Backing.At(at), map.Access);
                        break;
                    case CopyOperation copy:
                        var source = Enumerable.Range(0, (int)(copy.Length / Page)).Select(i => pages[(copy.Source.Value, copy.SourceIova + (ulong)i * Page)].Backing).ToList();
                        for (ulong i = 0; i < copy.Length / Page; i++)
                            pages[(copy.Target.Value, answer + i * Page)] = (source[(int)i], copy.Access);
                        break;
                    case UnmapOperation unmap:
                        for (var at = unmap.Range.Start; at < unmap.Range.Last; at += Page)
                            pages.Remove((unmap.Ioas.Value, at));
                        break;
                }
            }

            var picture = Generators.Picture(history);
            var seen = picture.Areas
                .SelectMany(one => Enumerable.Range(0, (int)(one.Area.Range.Length / Page)).Select(i => (ulong)i * Page)
                    .Select(at => (Key: (one.Ioas.Value, one.Area.Range.Start + at), Value: (one.Area.Backing.At(at), one.Area.Access))))
                .ToDictionary(page => page.Key, page => page.Value);
            return seen.Count == pages.Count && pages.All(page => seen[page.Key] == page.Value);
        }).Check(Generators.Quick);
    }

    [Fact]
    public void Areas_are_sorted_and_apart_and_found_by_address()
    {
        Prop.ForAll(Generators.History.ToArbitrary(), history => Generators.Picture(history).Ioases.Values.All(ioas =>
            ioas.Areas.Zip(ioas.Areas.Skip(1)).All(pair => pair.First.Range.Last < pair.Second.Range.Start)
            && ioas.Areas.All(area => ioas.At(area.Range.Start) == area && ioas.At(area.Range.Last) == area)
            && Enumerable.Range(0, 120).All(page => ioas.At((ulong)page * Page) == ioas.Areas.Find(area => area.Range.Contains((ulong)page * Page)))))
            .Check(Generators.Quick);
    }

    [Fact]
    public void A_picture_differs_from_another_one_exactly_where_something_was_done_to_it()
    {
        var cases = from history in Generators.History from index in Gen.Choose(0, 1000) select (history, index);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            var picture = Generators.Picture(c.history);
            if (!Differences.Between(picture, picture).IsEmpty)
                return false;
            var areas = picture.Areas.ToList();
            if (areas.Count == 0)
                return true;
            var (ioas, area) = areas[c.index % areas.Count];
            var without = picture.Apply(new UnmapOperation(ioas, area.Range), area.Range.Length);
            var changed = without.Apply(new MapOperation(ioas, area.Range.Start, area.Range.Length, area.Access, area.Backing.At(Page)), area.Range.Start);
            return Differences.Between(picture, without).Single() is { Kind: DifferenceKind.NotMapped } missing && missing.Ioas == ioas && missing.Range == area.Range
                && Differences.Between(without, picture).Single() is { Kind: DifferenceKind.UnexpectedlyMapped } surplus && surplus.Range == area.Range
                && Differences.Between(picture, changed).Count(one => one.Kind == DifferenceKind.OtherMemory && one.Range == area.Range) == 1;
        }).Check(Generators.Quick);
    }

    [Fact]
    public void Differences_are_named()
    {
        var expected = Generators.Picture(
        [
            (new AllocateIoasOperation(), 1), (new AllocateIoasOperation(), 2), (new AllocateIoasOperation(), 3),
            (Map(0, 4), 0), (Map(8, 4), 8 * Page), (Map(16, 4), 16 * Page),
        ]);
        var actual = Generators.Picture(
        [
            (new AllocateIoasOperation(), 1), (new AllocateIoasOperation(), 2), (new AllocateIoasOperation(), 9),
            (new AllowIovasOperation(One, [IovaRange.Of(0, 1 << 30)]), 0), (new SetOptionOperation(ContextOption.HugePages, new IoasId(2), 0), 0),
            (Map(0, 2), 0), (Map(8, 4, MapAccess.Read), 8 * Page), (new CopyOperation(One, 8 * Page, One, 16 * Page, 4 * Page, MapAccess.ReadWrite), 16 * Page),
            (new SetOptionOperation(ContextOption.AccountPerProcess, null, 1), 0),
        ]);

        var kinds = Differences.Between(expected, actual).Select(one => one.Kind).Order();

        Assert.Equal(
            [
                DifferenceKind.MissingIoas, DifferenceKind.UnexpectedIoas, DifferenceKind.OtherBorders, DifferenceKind.OtherAccess,
                DifferenceKind.OtherMemory, DifferenceKind.OtherSharing, DifferenceKind.OtherAllowedIovas, DifferenceKind.OtherOption, DifferenceKind.OtherOption,
            ],
            kinds);
    }

    [Fact]
    public void What_a_kernel_never_does_is_not_believed()
    {
        var picture = Generators.Picture([(new AllocateIoasOperation(), 1), (Map(0, 4), 0)]);

        Assert.Throws<InconsistentRecordException>(() => picture.Apply(Map(3, 4), 3 * Page));
        Assert.Throws<InconsistentRecordException>(() => picture.Apply(new UnmapOperation(One, IovaRange.Of(0, Page)), Page));
        Assert.Throws<InconsistentRecordException>(() => picture.Apply(new CopyOperation(One, 3 * Page, One, 8 * Page, 2 * Page, MapAccess.Read), 8 * Page));
        Assert.Throws<InconsistentRecordException>(() => picture.Apply(new UnmapOperation(new IoasId(7), IovaRange.All), 0));
        Assert.Throws<InconsistentRecordException>(() => picture.Apply(new DetachDeviceOperation(new DeviceId(5), null), 0));
    }

    [Fact]
    public void A_device_is_attached_directly_or_by_a_page_table_until_it_is_not()
    {
        var picture = Generators.Picture(
        [
            (new AllocateIoasOperation(), 1), (new BindDeviceOperation("a"), 2), (new BindDeviceOperation("b"), 3),
            (new AllocateHwptOperation(new DeviceId(2), One, HwptFlags.DirtyTracking, 0, null), 4),
            (new AttachDeviceOperation(new DeviceId(2), new HwptId(4), null), 4), (new AttachDeviceOperation(new DeviceId(3), One, 7), 5),
        ]);

        Assert.Equal(["a", "b"], picture.AttachedTo(One).Select(device => device.Name));
        Assert.Equal(["a"], picture.Apply(new DetachDeviceOperation(new DeviceId(3), 7), 0).AttachedTo(One).Select(device => device.Name));
    }

    [Fact]
    public void Ten_thousand_areas_are_no_matter_of_seconds()
    {
        var picture = Generators.Picture([(new AllocateIoasOperation(), 1)]);
        var clock = System.Diagnostics.Stopwatch.StartNew();

        for (ulong i = 0; i < 10_000; i++)
            picture = picture.Apply(Map(i * 2, 1), i * 2 * Page);

        Assert.Equal(10_000, picture.Areas.Count());
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(5), $"{clock.Elapsed}");
    }

    private static MapOperation Map(ulong page, ulong pages, MapAccess access = MapAccess.ReadWrite) =>
        new(One, page * Page, pages * Page, access, new FileBacking(new FileIdentity(new Memfd.DeviceNumber(0, 1), 5), page * Page));
}
