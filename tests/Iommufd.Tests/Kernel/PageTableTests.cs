using CprSharp.Memfd;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Page tables, moving devices between them, dirty tracking, fault queues, virtual IOMMUs.</summary>
[Collection(KernelCollection.Name)]
public sealed class PageTableTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;
    private const uint SelftestViommu = 0xdeadbeef;
    private const uint SelftestEvents = 0xbeefbeef;

    [Fact]
    public void Moving_a_device_destroys_an_automatic_page_table_and_keeps_one_made_on_purpose()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var (first, second) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        var device = mock.Attach(first);
        var made = mock.Context.AllocateHwpt(device.Device, second);
        mock.Context.MapFile(second, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);

        device.MoveTo(made);

        Assert.True(mock.LeadsTo(made, Start, memory.Address, 4 * Page));
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.Destroy(device.Hwpt)).Errno);
        device.MoveTo(first);
        mock.Context.Destroy(made);
        Assert.Equal(Errno.ENOENT, Fails(() => device.MoveTo(made)).Errno);
    }

    [Fact]
    public void A_device_moves_to_another_address_space_with_the_same_memory_and_one_pin()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var (first, second) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        mock.Context.MapFile(first, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);
        var device = mock.Attach(first);
        mock.Context.Copy(first, IovaRange.Of(Start, 4 * Page), second, MapAccess.ReadWrite, Start);

        device.MoveTo(second);

        Assert.True(mock.IsPinned(memory.Address, 4 * Page, 1));
        mock.Context.Destroy(first);
        Assert.True(mock.IsPinned(memory.Address, 4 * Page, 1));
    }

    [Fact]
    public void A_move_to_what_cannot_be_pinned_fails_and_the_device_stays_where_it_is()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        using var tooShort = Memfd.Memfd.Create("short", (long)Page);
        var (first, second) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        mock.Context.MapFile(first, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);
        var device = mock.Attach(first);
        mock.Context.MapFile(second, MappableFile.Unchecked(tooShort), 0, 2 * Page, MapAccess.Read, Start);

        Assert.Equal(Errno.EINVAL, Fails(() => device.MoveTo(second)).Errno);

        Assert.True(mock.LeadsTo(device.Hwpt, Start, memory.Address, 4 * Page));
    }

    [Theory]
    [InlineData(MockIommu.Page)]
    [InlineData(MockIommu.Page * 8)]
    public void Writes_of_devices_are_recorded_and_forgotten_when_read(ulong pageSize)
    {
        const ulong pages = 256;
        using var mock = new MockIommu();
        using var memory = new GuestMemory(pages * Page * 8);
        var ioas = mock.Context.AllocateIoas();
        mock.Context.SetOption(ContextOption.HugePages, 0, ioas); // else one bit stands for as many pages as the kernel could combine
        var device = mock.Attach(ioas);
        var hwpt = mock.Context.AllocateHwpt(device.Device, ioas, HwptFlags.DirtyTracking);
        device.MoveTo(hwpt);
        var range = IovaRange.Of(Start, pages * pageSize);
        mock.Context.MapFile(ioas, memory.File, 0, memory.Length, MapAccess.ReadWrite, Start);
        mock.Context.SetDirtyTracking(hwpt, enabled: true);
        var written = new ulong[pages / 64];
        for (ulong i = 0; i < pages; i += i % 5 + 1)
            written[i / 64] |= 1UL << (int)(i % 64);

        mock.WriteAsDevice(hwpt, range, pageSize, written);

        Assert.Equal(written, Dirty(clear: false));
        Assert.Equal(written, Dirty(clear: true));
        Assert.Equal(new ulong[pages / 64], Dirty(clear: true));
        mock.Context.SetDirtyTracking(hwpt, enabled: false);

        ulong[] Dirty(bool clear)
        {
            var bitmap = new ulong[pages / 64];
            mock.Context.GetDirtyBitmap(hwpt, range, pageSize, bitmap, clear);
            return bitmap;
        }
    }

    [Fact]
    public void Dirty_tracking_needs_hardware_and_a_page_table_made_for_it()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        var plain = mock.Attach(ioas, MockIommu.NoDirtyTracking);
        var able = mock.Attach(mock.Context.AllocateIoas());
        var automatic = mock.Attach(ioas).Hwpt;

        Assert.False(mock.Context.GetHardwareInfo(plain.Device).Capabilities.HasFlag(HardwareCapabilities.DirtyTracking));
        Assert.True(mock.Context.GetHardwareInfo(able.Device).Capabilities.HasFlag(HardwareCapabilities.DirtyTracking));
        Assert.Equal(8, mock.Context.GetHardwareInfo(able.Device).Data.Length);
        Assert.Equal(Errno.EOPNOTSUPP, Fails(() => mock.Context.AllocateHwpt(plain.Device, ioas, HwptFlags.DirtyTracking)).Errno);
        Assert.Equal(Errno.EOPNOTSUPP, Fails(() => mock.Context.SetDirtyTracking(automatic, enabled: true)).Errno);
    }

    [Fact]
    public void A_misaligned_bitmap_is_refused_by_the_kernel_and_a_short_one_here()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);
        var hwpt = mock.Context.AllocateHwpt(device.Device, ioas, HwptFlags.DirtyTracking);

        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.GetDirtyBitmap(hwpt, IovaRange.Of(Start + 1, Page), Page, new ulong[1])).Errno);
        Assert.Throws<ArgumentException>(() => mock.Context.GetDirtyBitmap(hwpt, IovaRange.Of(Start, 65 * Page), Page, new ulong[1]));
    }

    [Fact]
    public void Queues_and_virtual_devices_come_with_their_descriptors()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);
        var parent = mock.Context.AllocateHwpt(device.Device, ioas, HwptFlags.NestParent);
        mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);
        var data = new byte[24];

        var (faults, faultQueue) = mock.Context.AllocateFaultQueue();
        var viommu = mock.Context.AllocateVirtualIommu(device.Device, parent, SelftestViommu, data);
        var vdevice = mock.Context.AllocateVirtualDevice(viommu, device.Device, 0x99);
        var (events, eventQueue) = mock.Context.AllocateVirtualEventQueue(viommu, SelftestEvents, 4);
        var queue = mock.Context.AllocateHardwareQueue(viommu, SelftestViommu, 0, IovaRange.Of(Start, Page));

        using (faultQueue)
        using (eventQueue)
        {
            Assert.False(faultQueue.IsInvalid || eventQueue.IsInvalid);
            // What has a queue in it is locked.
            Assert.Equal(Errno.EBUSY, Fails(() => mock.Context.Unmap(ioas, IovaRange.Of(Start, 4 * Page))).Errno);
            Assert.Equal(17, Fails(() => mock.Context.AllocateVirtualDevice(viommu, device.Device, 0x9a)).Errno);
            Assert.Equal(Errno.EOPNOTSUPP, Fails(() => mock.Context.AllocateVirtualIommu(device.Device, parent, 77)).Errno);
            mock.Context.Destroy(queue);
            mock.Context.Destroy(vdevice);
            // Whoever has the descriptor keeps the queue: a successor must be given it.
            Assert.Equal(Errno.EBUSY, Fails(() => mock.Context.Destroy(events)).Errno);
            Assert.Equal(Errno.EBUSY, Fails(() => mock.Context.Destroy(faults)).Errno);
        }

        mock.Context.Unmap(ioas, IovaRange.Of(Start, 4 * Page));
        mock.Context.Destroy(events);
        mock.Context.Destroy(faults);
        mock.Context.Destroy(viommu);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.Invalidate(parent, 0, [], 0)).Errno); // no nested page table
    }

    [Fact]
    public void The_container_interface_maps_by_address_in_its_own_address_space()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        Assert.Null(mock.Context.GetCompatIoas());
        Assert.Equal(Errno.ENODEV, Fails(() => mock.Context.CompatMap(memory.Address, IovaRange.Of(Start, Page), MapAccess.Read)).Errno);
        var ioas = mock.Context.AllocateIoas();
        mock.Context.SetCompatIoas(ioas);
        var device = mock.Attach(ioas);
        mock.Context.SetCompatIommu(3);

        mock.Context.CompatMap(memory.Address, IovaRange.Of(Start, 4 * Page), MapAccess.ReadWrite);

        Assert.Equal((ioas, 0), (mock.Context.GetCompatIoas()!.Value, mock.Context.GetCompatApiVersion()));
        Assert.True(mock.Context.HasCompatExtension(3) && mock.Context.HasCompatExtension(9));
        Assert.False(mock.Context.HasCompatExtension(10));
        Assert.NotEqual(0UL, mock.Context.GetCompatPageSizes() & Page);
        Assert.True(mock.LeadsTo(device.Hwpt, Start, memory.Address, 4 * Page));
        Assert.Equal(Errno.EEXIST, Fails(() => mock.Context.CompatMap(memory.Address, IovaRange.Of(Start, Page), MapAccess.Read)).Errno);
        Assert.Equal(4 * Page, mock.Context.CompatUnmap(IovaRange.Of(Start, 4 * Page)));
        mock.Context.CompatMap(memory.Address, IovaRange.Of(Start, Page), MapAccess.Read);
        Assert.Equal(Page, mock.Context.CompatUnmap(IovaRange.All));
        mock.Context.SetCompatIoas(null);
        Assert.Null(mock.Context.GetCompatIoas());
    }

    [Fact]
    public void Physical_addresses_are_for_devices_without_an_IOMMU()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(Page);
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, Start);

        Assert.Equal(Errno.EOPNOTSUPP, Fails(() => mock.Context.GetPhysicalAddress(ioas, IovaRange.Of(Start, Page))).Errno);
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.GetPhysicalAddress(ioas, IovaRange.Of(Start + Page, Page))).Errno);
    }

    private static IommufdException Fails(Action action) => Assert.Throws<IommufdException>(action);
}
