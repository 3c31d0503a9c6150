using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Xunit;

namespace CprSharp.Iommufd.Tests.Inventory;

public sealed class ForeignInventoryTests
{
    private const int Pid = 42;
    private const ulong HostRam = 0x7f00_0000_0000;
    private static readonly FileIdentity Ram = new(new DeviceNumber(0, 1), 100);

    /// <summary>A q35 with 256 MiB: RAM with the VGA's hole in it, a ROM, registers, a BAR (what info mtree -f and query-pci say).</summary>
    private static readonly ForeignFacts Q35 = new(
        Pid,
        [
            new GuestRegion(new IovaRange(0, 0x9ffff), GuestRegionKind.Ram, "pc.ram", 0),
            new GuestRegion(new IovaRange(0xa0000, 0xbffff), GuestRegionKind.Io, "vga-lowmem", 0),
            new GuestRegion(new IovaRange(0xe0000, 0xfffff), GuestRegionKind.Rom, "pc.ram", 0xe0000),
            new GuestRegion(new IovaRange(0x100000, 0xfffffff), GuestRegionKind.Ram, "pc.ram", 0x100000),
            new GuestRegion(new IovaRange(0xfebd0000, 0xfebd00ff), GuestRegionKind.Ram, "tiny", 0),
        ],
        [new MemoryBlock("pc.ram", 256 << 20)],
        [new GuestBar("0000:00:03.0", 0, new IovaRange(0xfe000000, 0xfe003fff), new VfioRegionPart(0, 0x4000))],
        [
            new MapEntry(0x5555_0000_0000, 0x5555_0010_0000, MappingProtection.Read, false, 0, new DeviceNumber(8, 1), 7, "/usr/bin/qemu-system-x86_64"),
            new MapEntry(HostRam, HostRam + (64 << 20), MappingProtection.Read | MappingProtection.Write, true, 0, Ram.Device, Ram.Inode, "/memfd:pc.ram (deleted)"),
            new MapEntry(HostRam + (64 << 20), HostRam + (256 << 20), MappingProtection.Read | MappingProtection.Write, true, 64 << 20, Ram.Device, Ram.Inode, "/memfd:pc.ram (deleted)"),
        ],
        ForeignMapping.ByFile,
        null);

    private static readonly IReadOnlyList<ObservedExtent> AllThere =
    [
        new(new IovaRange(0, 0x9ffff), true), new(new IovaRange(0xe0000, 0xfffff), false), new(new IovaRange(0x100000, 0xfffffff), true),
        new(new IovaRange(0xfe000000, 0xfe003fff), true),
    ];

    [Fact]
    public void Memory_is_found_by_the_length_of_its_mappings_though_they_are_split()
    {
        var areas = ForeignInventory.Rebuild(Q35 with { Observed = AllThere });

        Assert.Equal(
            [
                (new IovaRange(0, 0x9ffff), MapAccess.ReadWrite, (Backing)new FileBacking(Ram, 0), Certainty.Confirmed),
                (new IovaRange(0xe0000, 0xfffff), MapAccess.Read, new FileBacking(Ram, 0xe0000), Certainty.Confirmed),
                (new IovaRange(0x100000, 0xfffffff), MapAccess.ReadWrite, new FileBacking(Ram, 0x100000), Certainty.Confirmed),
                (new IovaRange(0xfe000000, 0xfe003fff), MapAccess.ReadWrite, new UnknownBacking(), Certainty.Confirmed),
            ],
            areas.Select(one => (one.Area.Range, one.Area.Access, one.Area.Backing, one.Certainty)));
        Assert.Equal("0000:00:03.0", areas[3].Bar!.Device);
    }

    [Fact]
    public void Without_asking_the_kernel_it_is_derived()
    {
        var areas = ForeignInventory.Rebuild(Q35);

        Assert.All(areas, one => Assert.Equal(Certainty.Derived, one.Certainty));
        Assert.All(areas, one => Assert.Contains("the kernel was not asked", one.Evidence, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(ForeignMapping.ByAddress)]
    [InlineData(ForeignMapping.Unknown)]
    public void When_it_is_not_known_how_a_VMM_maps_it_is_taken_as_by_address(ForeignMapping mapping)
    {
        var areas = ForeignInventory.Rebuild(Q35 with { Mapping = mapping, Observed = AllThere });

        Assert.Equal(new VirtualBacking(Pid, HostRam + 0x100000), areas[2].Area.Backing);
    }

    [Fact]
    public void An_address_or_a_file_of_the_VMM_goes_before_guessing_and_private_memory_is_by_address()
    {
        var twin = Q35.Maps[1] with { Start = 0x6000_0000_0000, End = 0x6000_0000_0000 + (256 << 20), Inode = 999, Shared = false };
        var facts = Q35 with { Maps = [twin, .. Q35.Maps], Observed = AllThere };

        var guessed = ForeignInventory.Rebuild(facts);
        var told = ForeignInventory.Rebuild(facts with { Blocks = [new MemoryBlock("pc.ram", 256 << 20, HostAddress: HostRam)] });
        var byFile = ForeignInventory.Rebuild(facts with { Blocks = [new MemoryBlock("pc.ram", 256 << 20, File: Ram)] });
        var isPrivate = ForeignInventory.Rebuild(facts with { Blocks = [new MemoryBlock("pc.ram", 256 << 20, HostAddress: twin.Start)] });

        Assert.Equal((Certainty.Ambiguous, (Backing)new UnknownBacking()), (guessed[0].Certainty, guessed[0].Area.Backing));
        Assert.Contains("2 mappings", guessed[0].Evidence, StringComparison.Ordinal);
        Assert.All([told, byFile], one => Assert.Equal((Certainty.Confirmed, (Backing)new FileBacking(Ram, 0)), (one[0].Certainty, one[0].Area.Backing)));
        Assert.Equal(new VirtualBacking(Pid, twin.Start), isPrivate[0].Area.Backing);
    }

    [Fact]
    public void What_the_kernel_has_not_and_what_only_the_kernel_has_is_named()
    {
        ObservedExtent[] observed = [new(new IovaRange(0, 0x7ffff), true), .. AllThere.Skip(1).Take(2), new(new IovaRange(0x1_0000_0000, 0x1_0000_0fff), false)];

        var areas = ForeignInventory.Rebuild(Q35 with { Observed = observed });

        Assert.Equal(
            [Certainty.NotMapped, Certainty.Confirmed, Certainty.Confirmed, Certainty.NotMapped, Certainty.Unexplained], areas.Select(one => one.Certainty));
        Assert.Contains("0x80000-0x9ffff", areas[0].Evidence, StringComparison.Ordinal);
        Assert.Equal((MapAccess.Read, new IovaRange(0x1_0000_0000, 0x1_0000_0fff)), (areas[4].Area.Access, areas[4].Area.Range));
    }

    [Fact]
    public void A_block_that_nobody_names_is_no_certainty()
    {
        var areas = ForeignInventory.Rebuild(Q35 with { Blocks = [], Observed = AllThere });

        Assert.Equal(Certainty.Ambiguous, areas[0].Certainty);
        Assert.Contains("names no memory block pc.ram", areas[0].Evidence, StringComparison.Ordinal);
    }

    /// <summary>As QEMU's listener does; an MSI-X table of 65 vectors leaves a piece that begins at 0x2410.</summary>
    [Fact]
    public void What_is_left_of_a_BAR_beside_its_MSI_X_table_is_cut_to_whole_pages()
    {
        GuestBar[] bars =
        [
            new("0000:00:03.0", 0, new IovaRange(0xfe000000, 0xfe001fff), new VfioRegionPart(0, 0x2000)),
            new("0000:00:03.0", 0, new IovaRange(0xfe002410, 0xfe003fff), new VfioRegionPart(0x2410, 0x1bf0)),
            new("0000:00:03.0", 4, new IovaRange(0xfe004410, 0xfe004fff), new VfioRegionPart(0x410, 0xbf0)),
        ];
        ObservedExtent[] observed = [.. AllThere.Take(3), new(new IovaRange(0xfe000000, 0xfe001fff), true), new(new IovaRange(0xfe003000, 0xfe003fff), true)];

        var areas = ForeignInventory.Rebuild(Q35 with { Bars = bars, Observed = observed });

        Assert.All(areas, one => Assert.Equal(Certainty.Confirmed, one.Certainty));
        Assert.Equal([new VfioRegionPart(0, 0x2000), new VfioRegionPart(0x3000, 0x1000)], areas.Select(one => one.Bar).OfType<GuestBar>().Select(bar => bar.Part));
        Assert.All(areas.Where(one => one.Bar is not null), one => Assert.Equal(one.Area.Range, one.Bar!.Addresses));
    }

    [Theory]
    [InlineData(0, 0xfff, 0, 0xfff)]
    [InlineData(1, 0x1fff, 0x1000, 0x1fff)]
    [InlineData(0, 0x1ffe, 0, 0xfff)]
    [InlineData(ulong.MaxValue - 0x1fff, ulong.MaxValue, ulong.MaxValue - 0x1fff, ulong.MaxValue)]
    public void Pages_that_are_whole_are_kept(ulong start, ulong last, ulong pagesStart, ulong pagesLast) =>
        Assert.Equal(new IovaRange(pagesStart, pagesLast), new IovaRange(start, last).WholePages());

    [Theory]
    [InlineData(0, 0xffe)]
    [InlineData(1, 0x1ffe)]
    [InlineData(ulong.MaxValue - 0xffe, ulong.MaxValue)]
    public void Without_a_whole_page_nothing_is_left(ulong start, ulong last) => Assert.Null(new IovaRange(start, last).WholePages());
}
