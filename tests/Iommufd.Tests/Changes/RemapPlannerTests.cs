using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.Iommufd.Tests.Changes;

public sealed class RemapPlannerTests
{
    private const ulong Page = 4096;
    private const int Pid = 42;
    private static readonly IoasId One = new(1);
    private static readonly FileIdentity Ram = new(new DeviceNumber(0, 1), 100);
    private static readonly FileIdentity Other = new(new DeviceNumber(0, 1), 101);

    public static TheoryData<FileRefusal, FileFacts> Unfit => new()
    {
        { FileRefusal.NotSharedMemory, Facts(DescriptorKind.RegularFile) },
        { FileRefusal.SecretMemory, Facts(DescriptorKind.SecretMemfd) },
        { FileRefusal.GuestMemory, Facts(DescriptorKind.GuestMemfd) },
        { FileRefusal.WriteSealed, Facts(DescriptorKind.Memfd) with { Seals = Seals.Write } },
        { FileRefusal.WriteSealed, Facts(DescriptorKind.Memfd) with { Seals = Seals.FutureWrite | Seals.Grow } },
        { FileRefusal.ReadOnlyDescriptor, Facts(DescriptorKind.ShmemFile) with { Access = DescriptorAccess.Read } },
        { FileRefusal.ReadOnlyDescriptor, Facts(DescriptorKind.HugetlbFile) with { Access = DescriptorAccess.None } },
        { FileRefusal.BeyondEnd, Facts(DescriptorKind.Memfd) with { Size = 4 * Page } },
    };

    [Theory]
    [MemberData(nameof(Unfit))]
    public void A_file_that_will_not_do_is_refused_by_name(FileRefusal refusal, FileFacts facts)
    {
        var plan = Plan([Area(0, 8, 0x10000)], [Map(0x10000, 8, Ram, 0)], facts);

        var one = Assert.Single(plan.Refusals);
        Assert.Equal((refusal, "/memfd:ram (deleted)", IovaRange.Of(0, 8 * Page)), (one.Refusal, one.Memory, one.Range));
        Assert.False(plan.CanBeDone);
    }

    [Fact]
    public void Devices_that_only_read_may_have_what_is_sealed()
    {
        var area = Area(0, 4, 0x10000) with { Access = MapAccess.Read };

        Assert.True(Plan([area], [Map(0x10000, 4, Ram, 0)], Facts(DescriptorKind.Memfd) with { Seals = Seals.Write, Access = DescriptorAccess.Read }).CanBeDone);
    }

    [Fact]
    public void Memory_without_a_file_is_refused_for_what_it_is()
    {
        MapEntry anonymous = new(0x10000, 0x12000, MappingProtection.Read, false, 0, default, 0, null);
        var copyOnWrite = Map(0x12000, 2, Ram, 0) with { Shared = false };
        var unknownFile = Map(0x14000, 2, Other, 0);

        var plan = Plan([Area(0, 10, 0x10000)], [anonymous, copyOnWrite, unknownFile, Map(0x18000, 2, Ram, 0)], Facts(DescriptorKind.Memfd));

        Assert.Equal(
            [
                (FileRefusal.Anonymous, IovaRange.Of(0, 2 * Page)), (FileRefusal.PrivateMapping, IovaRange.Of(2 * Page, 2 * Page)),
                (FileRefusal.NoDescriptor, IovaRange.Of(4 * Page, 2 * Page)), (FileRefusal.NotMapped, IovaRange.Of(6 * Page, 2 * Page)),
            ],
            plan.Refusals.Select(one => (one.Refusal, one.Range)));
    }

    [Fact]
    public void Another_processs_addresses_and_unknown_memory_are_refused_and_files_are_left_alone()
    {
        var plan = Plan(
            [
                Area(0, 1, 0x10000) with { Backing = new VirtualBacking(7, 0x10000) }, Area(4, 1, 0) with { Backing = new UnknownBacking() },
                Area(8, 1, 0) with { Backing = new FileBacking(Ram, 0) }, Area(12, 1, 0) with { Backing = new DmaBufBacking(Ram, 0) },
            ],
            [Map(0x10000, 8, Ram, 0)],
            Facts(DescriptorKind.Memfd));

        Assert.Equal([FileRefusal.OtherProcess, FileRefusal.Unknown], plan.Refusals.Select(one => one.Refusal));
        Assert.Empty(plan.Replacements);
    }

    [Fact]
    public void A_mapping_that_was_split_is_one_piece_again_and_a_jump_in_the_file_is_not()
    {
        // madvise splits mappings; here the file goes on in the second and jumps in the third.
        var plan = Plan(
            [Area(16, 8, 0x11000)], [Map(0x10000, 4, Ram, 0), Map(0x14000, 2, Ram, 4), Map(0x16000, 4, Ram, 20)], Facts(DescriptorKind.Memfd));

        Assert.Equal(
            [new FilePiece(IovaRange.Of(16 * Page, 5 * Page), Ram, Page), new FilePiece(IovaRange.Of(21 * Page, 3 * Page), Ram, 20 * Page)],
            Assert.Single(plan.Replacements).Pieces);
    }

    [Fact]
    public void Every_page_of_an_area_is_planned_or_refused_and_leads_to_the_byte_that_the_process_sees()
    {
        var maps = Gen.ListOf(
            from gap in Gen.Choose(0, 2) from pages in Gen.Choose(1, 6) from offset in Gen.Choose(0, 50) from kind in Gen.Choose(0, 5) select (gap, pages, offset, kind));
        var cases = from list in maps from start in Gen.Choose(0, 20) from pages in Gen.Choose(1, 40) select (list, start, pages);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            var at = 0x10000UL;
            var entries = new List<MapEntry>();
            foreach (var (gap, pages, offset, kind) in c.list)
            {
                at += (ulong)gap * Page;
                var entry = Map(at, (ulong)pages, kind == 4 ? Other : Ram, (ulong)offset);
                entries.Add(kind switch { 0 => entry with { Inode = 0, Device = default, Path = null }, 1 => entry with { Shared = false }, _ => entry });
                at = entry.End;
            }

            var area = Area(1000, (ulong)c.pages, 0x10000 + (ulong)c.start * Page);
            var plan = Plan([area], entries, Facts(DescriptorKind.Memfd));
            return Enumerable.Range(0, c.pages).All(i =>
            {
                var iova = area.Range.Start + (ulong)i * Page;
                var address = 0x10000 + (ulong)(c.start + i) * Page;
                var map = entries.Find(one => address >= one.Start && address < one.End);
                var pieces = plan.Replacements.SelectMany(one => one.Pieces).Where(piece => piece.Range.Contains(iova)).ToList();
                var refused = plan.Refusals.Count(one => one.Range.Contains(iova));
                return map is { Shared: true } && map.Inode == Ram.Inode
                    ? refused == 0 && pieces.Count == 1 && pieces[0].Offset + (iova - pieces[0].Range.Start) == map.Offset + (address - map.Start)
                    : refused == 1 && pieces.Count == 0;
            });
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    private static RemapPlan Plan(IEnumerable<Area> areas, IReadOnlyList<MapEntry> maps, FileFacts facts) =>
        RemapPlanner.Plan(One, areas, Pid, maps, new Dictionary<FileIdentity, FileFacts> { [Ram] = facts });

    private static FileFacts Facts(DescriptorKind kind) => new(kind, "ram", 1000 * Page, DescriptorAccess.ReadWrite, kind == DescriptorKind.Memfd ? Seals.Shrink | Seals.Grow : null);

    private static Area Area(ulong page, ulong pages, ulong address) =>
        new(IovaRange.Of(page * Page, pages * Page), MapAccess.ReadWrite, new VirtualBacking(Pid, address), 1);

    private static MapEntry Map(ulong start, ulong pages, FileIdentity file, ulong filePage) =>
        new(start, start + pages * Page, MappingProtection.Read | MappingProtection.Write, true, filePage * Page, file.Device, file.Inode, "/memfd:ram (deleted)");
}
