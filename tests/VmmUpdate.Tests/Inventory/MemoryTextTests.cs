using CprSharp.Iommufd;
using CprSharp.Iommufd.Inventory;
using CprSharp.VmmUpdate.Inventory;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Inventory;

public sealed class MemoryTextTests
{
    /// <summary>Of QEMU 11.1.3, shortened; the BAR's lines are as a VM under KVM has them.</summary>
    private const string Tree = """
        FlatView #0
         AS "I/O", root: io
         Root memory region: io
          0000000000000000-0000000000000007 (prio 0, i/o): dma-chan
          0000000000000010-000000000000001f (prio 0, container): io @0000000000000010

        FlatView #1
         AS "memory", root: system
         AS "cpu-memory-0", root: system
         Root memory region: system
          0000000000000000-000000000009ffff (prio 0, ram): ram0 KVM
          00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
          00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
          0000000000100000-000000007fffffff (prio 0, ram): ram0 @0000000000100000 KVM
          00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
          00000000fe000000-00000000fe002fff (prio 0, ramd): 0000:00:14.0 BAR 0 mmaps[0] KVM
          00000000fffc0000-00000000ffffffff (prio 0, romd): system.flash0
          0000000100000000-00000001bfffffff (prio -1, ram): ram0 @0000000080000000 KVM

        FlatView #2
         AS "vfio-pci", root: bus master container
         Root memory region: (none)
          No rendered FlatView
        """;

    private const string RamBlocks = """
                      Block Name    PSize              Offset               Used              Total                HVA  RO
                            ram0    4 KiB  0x0000000000000000 0x0000000140000000 0x0000000140000000 0x00007fc86ffff000  rw
           0000:00:01.0/vga.vram    2 MiB  0x0000000140080000 0x0000000001000000 0x0000000001000000 0x00007fc86ec00000  rw
            /rom@etc/acpi/tables    4 KiB  0x0000000141100000 0x0000000000020000 0x0000000000200000 0x00007fc86e800000  ro
        """;

    [Fact]
    public void The_flat_view_of_an_address_space_is_read()
    {
        var regions = MemoryText.Regions(Tree, MemoryText.SystemMemory);

        Assert.Equal(8, regions.Length);
        Assert.Equal(new GuestRegion(new IovaRange(0, 0x9ffff), GuestRegionKind.Ram, "ram0", 0), regions[0]);
        Assert.Equal(new GuestRegion(new IovaRange(0x100000000, 0x1bfffffff), GuestRegionKind.Ram, "ram0", 0x80000000), regions[^1]);
        Assert.Equal(
            [GuestRegionKind.Ram, GuestRegionKind.Io, GuestRegionKind.Rom, GuestRegionKind.Ram, GuestRegionKind.Ram, GuestRegionKind.RamDevice, GuestRegionKind.Io, GuestRegionKind.Ram],
            regions.Select(r => r.Kind));
        Assert.Equal("0000:00:14.0 BAR 0 mmaps[0]", regions[5].Block);
    }

    [Fact]
    public void Blocks_are_read_with_their_addresses_and_regions_are_named_as_they_are()
    {
        var blocks = MemoryText.Blocks(RamBlocks);

        Assert.Equal(
            [new MemoryBlock("ram0", 0x140000000, 0x7fc86ffff000), new MemoryBlock("0000:00:01.0/vga.vram", 0x1000000, 0x7fc86ec00000), new MemoryBlock("/rom@etc/acpi/tables", 0x20000, 0x7fc86e800000)],
            blocks);
        var region = new GuestRegion(new IovaRange(0, 1), GuestRegionKind.Ram, "vga.vram", 0);
        Assert.Equal("0000:00:01.0/vga.vram", MemoryText.Named(region, blocks).Block);
        Assert.Equal("ram0", MemoryText.Named(region with { Block = "ram0" }, blocks).Block);
        // Two cards: which one's it is nobody can tell by the name.
        Assert.Equal("vga.vram", MemoryText.Named(region, blocks.Add(new MemoryBlock("0000:00:02.0/vga.vram", 1, 1))).Block);
    }

    [Fact]
    public void QEMU_7_2_does_not_say_where_a_block_is()
    {
        var blocks = MemoryText.Blocks("""
                          Block Name    PSize              Offset               Used              Total
                                ram0    4 KiB  0x0000000000000000 0x00000000c0000000 0x00000000c0000000
                             pc.bios    4 KiB  0x00000000c0000000 0x0000000000040000 0x0000000000040000
            """);

        Assert.Equal([new MemoryBlock("ram0", 0xc0000000), new MemoryBlock("pc.bios", 0x40000)], blocks);
    }

    [Fact]
    public void What_says_something_else_is_not_understood()
    {
        Assert.Throws<FormatException>(() => MemoryText.Regions(Tree, "elsewhere"));
        Assert.Throws<FormatException>(() => MemoryText.Regions("unknown command", MemoryText.SystemMemory));
        Assert.Throws<FormatException>(() => MemoryText.Blocks("unknown command"));
    }
}
