using CprSharp.Memfd;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Areas on the kernel's mock IOMMU: the coverage of tools/testing/selftests/iommu for iommufd_ioas and iommufd_mock_domain.</summary>
[Collection(KernelCollection.Name)]
public sealed class AddressSpaceTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;

    public static TheoryData<bool> Attached => [false, true];

    [Fact]
    public void An_object_is_destroyed_once_and_not_while_it_is_used()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);

        Assert.Equal(Errno.EBUSY, Fails(() => mock.Context.Destroy(ioas)).Errno);
        device.Remove();
        mock.Context.Destroy(ioas);
        var e = Fails(() => mock.Context.Destroy(ioas));

        Assert.Equal(Errno.ENOENT, e.Errno);
        Assert.Contains("IOMMU_DESTROY(Ioas ", e.Message, StringComparison.Ordinal);
        Assert.False(mock.Context.HasIoas(ioas.Value));
    }

    [Theory]
    [MemberData(nameof(Attached))]
    public void A_file_is_mapped_pinned_once_and_let_go(bool hugePage)
    {
        using var mock = new MockIommu();
        using var memory = Memory(hugePage);
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);

        var iova = mock.Context.MapFile(ioas, memory.File, 0, memory.Length, MapAccess.ReadWrite);

        Assert.True(mock.LeadsTo(device.Hwpt, iova, memory.Address, memory.Length));
        Assert.True(mock.IsPinned(memory.Address, memory.Length, 1));
        Assert.Equal(memory.Length, mock.Context.Unmap(ioas, IovaRange.Of(iova, memory.Length)));
        Assert.True(mock.IsPinned(memory.Address, memory.Length, 0));
    }

    [Theory]
    [MemberData(nameof(Attached))]
    public void Part_of_a_file_shows_that_part(bool hugePage)
    {
        using var mock = new MockIommu();
        using var memory = Memory(hugePage);
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);

        foreach (var offset in new[] { 0UL, Page, 3 * Page, memory.Length - 2 * Page })
        {
            mock.Context.MapFile(ioas, memory.File, offset, 2 * Page, MapAccess.ReadWrite, Start);
            Assert.True(mock.LeadsTo(device.Hwpt, Start, memory.Address + (nint)offset, 2 * Page));
            Assert.False(mock.LeadsTo(device.Hwpt, Start, memory.Address + (nint)((offset + Page) % (memory.Length - Page)), Page));
            mock.Context.Unmap(ioas, IovaRange.Of(Start, 2 * Page));
        }
    }

    [Fact]
    public void Sizes_and_offsets_down_to_the_IOMMUs_page_lead_where_they_should()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(8 * Page);
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);

        for (ulong offset = 0; offset < 2 * Page; offset += MockIommu.MockPage)
        {
            for (ulong length = MockIommu.MockPage; length <= 3 * Page; length += MockIommu.MockPage)
            {
                var iova = mock.Context.MapFile(ioas, memory.File, offset, length, MapAccess.ReadWrite);
                Assert.True(mock.LeadsTo(device.Hwpt, iova, memory.Address + (nint)offset, length), $"{length} bytes from {offset}");
                mock.Context.Unmap(ioas, IovaRange.Of(iova, length));
            }
        }
    }

    [Fact]
    public void Beyond_the_end_of_the_file_nothing_is_mapped_once_a_device_is_there()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);

        var e = Fails(() => mock.Context.MapFile(ioas, memory.File, 0, 5 * Page, MapAccess.Read, Start));

        Assert.Equal(Errno.EINVAL, e.Errno);
        Assert.Equal(IovaRange.Of(Start, 5 * Page), e.Range);
        Assert.Contains("end of the file", e.Cause, StringComparison.Ordinal);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 4 * Page, Page, MapAccess.Read)).Errno);
    }

    [Fact]
    public void Without_a_device_the_kernel_takes_any_file_and_refuses_the_device_later()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        using var regular = File.OpenHandle("/proc/self/exe");

        // What facts/kernel.md had deduced: the type is looked at only when memory is pinned.
        mock.Context.MapFile(ioas, MappableFile.Unchecked(regular), 0, Page, MapAccess.Read, Start);

        Assert.Equal(Errno.EINVAL, Fails(() => mock.Attach(ioas)).Errno);
        Assert.Equal(FileRefusal.NotSharedMemory, Assert.Throws<FileRefusedException>(() => MappableFile.Inspect(regular)).Refusal);
    }

    [Fact]
    public void The_kernel_disregards_seals_and_read_only_descriptors_and_the_library_does_not()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        using var sealedFile = Memfd.Memfd.Create("sealed", (long)Page, new MemfdOptions { Seals = Seals.FutureWrite });
        using var memory = new GuestMemory(Page);
        using var readOnly = File.OpenHandle($"/proc/self/fd/{memory.Handle.DangerousGetHandle()}");

        mock.Context.MapFile(ioas, MappableFile.Unchecked(sealedFile), 0, Page, MapAccess.ReadWrite);
        mock.Context.MapFile(ioas, MappableFile.Unchecked(readOnly), 0, Page, MapAccess.ReadWrite);

        Assert.Equal(FileRefusal.WriteSealed, Assert.Throws<FileRefusedException>(() => MappableFile.Inspect(sealedFile)).Refusal);
        Assert.Equal(FileRefusal.ReadOnlyDescriptor, Assert.Throws<FileRefusedException>(() => MappableFile.Inspect(readOnly)).Refusal);
        Assert.Equal(memory.File.Identity, MappableFile.Inspect(readOnly, MapAccess.Read).Identity);
    }

    [Theory]
    [MemberData(nameof(Attached))]
    public void Areas_do_not_overlap_and_are_not_split(bool attached)
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(16 * Page);
        var ioas = mock.Context.AllocateIoas();
        if (attached)
            mock.Attach(ioas);
        for (ulong i = 0; i < 4; i++)
            mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start + i * 16 * Page);

        Assert.Equal(Errno.EEXIST, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, Start + 3 * Page)).Errno);
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.Unmap(ioas, IovaRange.Of(Start, 2 * Page))).Errno);
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.Unmap(ioas, IovaRange.Of(Start + Page, 3 * Page))).Errno);
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.Unmap(ioas, IovaRange.Of(Start + 8 * Page, Page))).Errno);
        Assert.Equal(8 * Page, mock.Context.Unmap(ioas, IovaRange.Of(Start, 32 * Page)));
        Assert.Equal(8 * Page, mock.Context.Unmap(ioas, IovaRange.All));
        Assert.Equal(0UL, mock.Context.Unmap(ioas, IovaRange.All));
    }

    [Fact]
    public void The_kernel_chooses_within_the_allowed_addresses_until_they_are_full()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        var allowed = IovaRange.Of(Start, 8 * Page);
        mock.Context.AllowIovas(ioas, allowed);

        var first = mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.Read);
        var second = mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.Read);
        var full = Fails(() => mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.Read));

        Assert.True(allowed.Contains(IovaRange.Of(first, 4 * Page)) && allowed.Contains(IovaRange.Of(second, 4 * Page)));
        Assert.Equal(28, full.Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.AllowIovas(ioas, new IovaRange(2, 1))).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.AllowIovas(ioas, new IovaRange(1, 9), new IovaRange(5, 12))).Errno);
        mock.Context.AllowIovas(ioas);
        mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.Read);
    }

    [Fact]
    public void A_device_narrows_the_usable_addresses_and_reserved_ones_cannot_be_allowed()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        var before = mock.Context.GetUsableIovas(ioas);
        var device = mock.Attach(ioas);
        var during = mock.Context.GetUsableIovas(ioas);

        Assert.Equal((IovaRange.All, 1UL), (before.Ranges.Single(), before.Alignment));
        Assert.Equal((new IovaRange(Start, MockIommu.ApertureLast), MockIommu.MockPage), (during.Ranges.Single(), during.Alignment));
        Assert.Equal(98, Fails(() => mock.Context.AllowIovas(ioas, new IovaRange(0, Start))).Errno);
        device.Remove();
        Assert.Equal(before.Ranges, mock.Context.GetUsableIovas(ioas).Ranges);

        // More ranges than the first call has room for.
        for (ulong i = 0; i < 20; i++)
            mock.Reserve(ioas, IovaRange.Of((i + 1) * 16 * Page, Page));
        Assert.Equal(21, mock.Context.GetUsableIovas(ioas).Ranges.Count);
    }

    [Fact]
    public void Reserved_and_misaligned_addresses_are_refused()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);

        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, Start - Page)).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, Start + 1)).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 1, Page, MapAccess.Read, Start)).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, 1, MapAccess.Read, Start)).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, 0, MapAccess.Read, Start)).Errno);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.None, Start)).Errno);
        Assert.Equal(Errno.EOPNOTSUPP, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, (MapAccess)0x80, Start)).Errno);
        Assert.Equal(75, Fails(() => mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, ulong.MaxValue)).Errno);
        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.MapFile(new IoasId(99), memory.File, 0, Page, MapAccess.Read, Start)).Errno);
    }

    [Fact]
    public void A_copy_shares_the_pin_and_outlives_its_source()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(8 * Page);
        var (source, target) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        var (sourceDevice, targetDevice) = (mock.Attach(source), mock.Attach(target));
        mock.Context.MapFile(source, memory.File, 0, 8 * Page, MapAccess.ReadWrite, Start);

        mock.Context.Copy(source, IovaRange.Of(Start + 2 * Page, 4 * Page), target, MapAccess.ReadWrite, Start + 64 * Page);

        Assert.True(mock.LeadsTo(sourceDevice.Hwpt, Start, memory.Address, 8 * Page));
        Assert.True(mock.LeadsTo(targetDevice.Hwpt, Start + 64 * Page, memory.Address + (nint)(2 * Page), 4 * Page));
        Assert.True(mock.IsPinned(memory.Address, 8 * Page, 1));
        mock.Context.Unmap(source, IovaRange.All);
        Assert.True(mock.LeadsTo(targetDevice.Hwpt, Start + 64 * Page, memory.Address + (nint)(2 * Page), 4 * Page));
        Assert.True(mock.IsPinned(memory.Address + (nint)(2 * Page), 4 * Page, 1));
        Assert.True(mock.IsPinned(memory.Address, 2 * Page, 0));
    }

    [Fact]
    public void A_copy_spans_areas_but_no_hole_and_grants_no_more_than_the_source()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(8 * Page);
        var (source, target) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        mock.Context.MapFile(source, memory.File, 0, 2 * Page, MapAccess.ReadWrite, Start);
        mock.Context.MapFile(source, memory.File, 4 * Page, 2 * Page, MapAccess.Read, Start + 2 * Page);

        mock.Context.Copy(source, IovaRange.Of(Start + Page, 2 * Page), target, MapAccess.Read, Start);

        Assert.Equal(Errno.ENOENT, Fails(() => mock.Context.Copy(source, IovaRange.Of(Start + 3 * Page, 2 * Page), target, MapAccess.Read)).Errno);
        Assert.Equal(Errno.EPERM, Fails(() => mock.Context.Copy(source, IovaRange.Of(Start, 4 * Page), target, MapAccess.ReadWrite)).Errno);
        // Two areas arrived: they can be unmapped one by one.
        Assert.Equal(Page, mock.Context.Unmap(target, IovaRange.Of(Start, Page)));
        Assert.Equal(Page, mock.Context.Unmap(target, IovaRange.Of(Start + Page, Page)));
    }

    [Fact]
    public void A_virtual_address_is_mapped_as_it_is_and_no_hole()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);

        var iova = mock.Context.Map(ioas, memory.Address, 4 * Page, MapAccess.ReadWrite);

        Assert.True(mock.LeadsTo(device.Hwpt, iova, memory.Address, 4 * Page));
        Assert.Equal(Errno.EFAULT, Fails(() => mock.Context.Map(ioas, 0x1000, Page, MapAccess.Read)).Errno);
    }

    [Fact]
    public void Huge_pages_are_switched_off_before_something_is_mapped_for_a_device()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();

        Assert.Equal(1UL, mock.Context.GetOption(ContextOption.HugePages, ioas));
        mock.Context.SetOption(ContextOption.HugePages, 0, ioas);
        Assert.Equal(0UL, mock.Context.GetOption(ContextOption.HugePages, ioas));
        Assert.Equal(Page, mock.Context.GetUsableIovas(ioas).Alignment);
        mock.Context.SetOption(ContextOption.HugePages, 1, ioas);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.SetOption(ContextOption.HugePages, 2, ioas)).Errno);
        mock.Attach(ioas);
        mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.Read, Start);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.SetOption(ContextOption.HugePages, 0, ioas)).Errno);
    }

    [Fact]
    public void The_accounting_mode_is_set_in_an_empty_context_only()
    {
        using var mock = new MockIommu();
        Assert.Equal(0UL, mock.Context.GetOption(ContextOption.AccountPerProcess));
        mock.Context.SetOption(ContextOption.AccountPerProcess, 1);
        Assert.Equal(1UL, mock.Context.GetOption(ContextOption.AccountPerProcess));
        mock.Context.AllocateIoas();
        Assert.Equal(Errno.EBUSY, Fails(() => mock.Context.SetOption(ContextOption.AccountPerProcess, 0)).Errno);
    }

    [Fact]
    public void A_dma_buf_is_mapped_and_refused_once_revoked()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        using var dmaBuf = mock.CreateDmaBuf(8192);
        var file = MappableFile.Inspect(dmaBuf);

        Assert.True(file.IsDmaBuf);
        mock.Context.MapFile(ioas, file, 0, 8192, MapAccess.ReadWrite, Start);
        Assert.Equal(Errno.EINVAL, Fails(() => mock.Context.MapFile(ioas, file, 4096, 8192, MapAccess.ReadWrite)).Errno);
        mock.Context.Unmap(ioas, IovaRange.Of(Start, 8192));
        mock.Revoke(dmaBuf, revoked: true);
        Assert.Equal(Errno.ENODEV, Fails(() => mock.Context.MapFile(ioas, file, 0, 8192, MapAccess.ReadWrite, Start)).Errno);
        mock.Revoke(dmaBuf, revoked: false);
        mock.Context.MapFile(ioas, file, 0, 8192, MapAccess.ReadWrite, Start);
    }

    [Fact]
    public void An_access_sees_the_memory_and_the_file_may_be_closed_meanwhile()
    {
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        using (var memory = new GuestMemory(Page))
        {
            mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.ReadWrite, Start);
            memory.Mapping.AsSpan()[7] = 42;
        }

        using var access = mock.CreateAccess(ioas);
        var bytes = new byte[16];

        Assert.Equal(0, access.TryTransfer(Start, bytes, write: false));
        Assert.Equal(42, bytes[7]);
        bytes[8] = 43;
        Assert.Equal(0, access.TryTransfer(Start, bytes, write: true));
        bytes[8] = 0;
        Assert.Equal(0, access.TryTransfer(Start, bytes, write: false));
        Assert.Equal(43, bytes[8]);
        Assert.NotEqual(0, access.TryTransfer(Start + Page, bytes, write: false));
    }

    private static GuestMemory Memory(bool hugePage)
    {
        const long huge = 2 << 20;
        if (!hugePage)
            return new GuestMemory(1 << 20);
        if (File.ReadAllText("/proc/sys/vm/nr_hugepages").Trim() == "0")
            File.WriteAllText("/proc/sys/vm/nr_hugepages", "8");
        return new GuestMemory(2 * huge, hugePage: huge);
    }

    private static IommufdException Fails(Action action) => Assert.Throws<IommufdException>(action);
}
