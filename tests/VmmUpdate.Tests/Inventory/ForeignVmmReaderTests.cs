using CprSharp.Iommufd;
using CprSharp.Iommufd.Inventory;
using CprSharp.VmmUpdate.Inventory;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Inventory;

public sealed class ForeignVmmReaderTests
{
    /// <summary>The kernel refuses to look at less; a BAR's piece beside its MSI-X table begins within a page.</summary>
    [Fact]
    public void The_kernel_is_asked_for_whole_pages()
    {
        GuestRegion[] regions =
        [
            new(new IovaRange(0xfe000000, 0xfe001fff), GuestRegionKind.RamDevice, "0000:00:14.0 BAR 0 mmaps[0]", 0),
            new(new IovaRange(0xfe002000, 0xfe00240f), GuestRegionKind.Io, "msix-table", 0),
            new(new IovaRange(0xfe002410, 0xfe003fff), GuestRegionKind.RamDevice, "0000:00:14.0 BAR 0 mmaps[0]", 0x2410),
        ];

        Assert.Equal([0xfe000000, 0xfe002000, 0xfe003000, 0xfe004000], ForeignVmmReader.Edges(regions));
    }
}
