using System.Security.Cryptography;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class MemfdTests
{
    private const int Page = 4096;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3L << 32)]
    public void Has_the_size_asked_for(long size)
    {
        using var memfd = Memfd.Create("size", size);

        Assert.Equal(size, Memfd.GetSize(memfd));
        Assert.Equal(size, DescriptorInfo.Of(memfd).Size);
    }

    [Fact]
    public void Is_close_on_exec_and_named_in_proc()
    {
        using var memfd = Memfd.Create("pc.ram", Page);

        var info = DescriptorInfo.Of(memfd);

        Assert.True(info.CloseOnExec);
        Assert.Equal("/memfd:pc.ram (deleted)", info.Path);
        Assert.Equal(DescriptorAccess.ReadWrite, info.Access);
    }

    [Fact]
    public void Cannot_be_made_executable()
    {
        using var memfd = Memfd.Create("noexec", Page);

        Assert.True(Memfd.GetSeals(memfd).HasFlag(Seals.Exec));
        Assert.Equal(0, DescriptorInfo.Of(memfd).Mode & 0b001_001_001);
    }

    [Fact]
    public void Seals_asked_for_are_set_and_hold()
    {
        using var memfd = Memfd.Create("sealed", Page, new MemfdOptions { Seals = Seals.Shrink | Seals.Grow });

        Assert.Equal(Seals.Shrink | Seals.Grow | Seals.Exec, Memfd.GetSeals(memfd));
        Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.SetLength(memfd, 2 * Page));
        Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.SetLength(memfd, 0));
        Assert.Equal(Page, Memfd.GetSize(memfd));
    }

    [Fact]
    public void Write_seal_is_refused_while_mapped_writable_and_refuses_mappings_afterwards()
    {
        using var memfd = Memfd.Create("w", Page);
        using (MemoryMapping.Map(memfd, 0, Page, MappingProtection.Read | MappingProtection.Write))
            Assert.Equal("EBUSY", Assert.Throws<SyscallException>(() => Memfd.AddSeals(memfd, Seals.Write)).ErrnoName);

        Memfd.AddSeals(memfd, Seals.Write);

        Assert.Equal(
            "EPERM",
            Assert.Throws<SyscallException>(() => MemoryMapping.Map(memfd, 0, Page, MappingProtection.Read | MappingProtection.Write)).ErrnoName);
    }

    [Fact]
    public void A_sealed_seal_set_stays_as_it_is()
    {
        using var memfd = Memfd.Create("s", Page, new MemfdOptions { Seals = Seals.Seal });

        var e = Assert.Throws<SyscallException>(() => Memfd.AddSeals(memfd, Seals.Grow));

        Assert.Equal("EPERM", e.ErrnoName);
        Assert.Contains("F_ADD_SEALS, Grow", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipe_has_no_seals()
    {
        using var pipe = new System.IO.Pipes.AnonymousPipeServerStream();

        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => Memfd.GetSeals(pipe.SafePipeHandle)).Errno);
    }

    [Fact]
    public void Mappings_share_their_content()
    {
        using var memfd = Memfd.Create("shared", 4 * Page);
        using var whole = MemoryMapping.Map(memfd, 0, 4 * Page, MappingProtection.Read | MappingProtection.Write);
        using var part = MemoryMapping.Map(memfd, 2 * Page, Page, MappingProtection.Read);
        RandomNumberGenerator.Fill(whole.AsSpan());

        Assert.Equal(whole.AsSpan(2 * Page, Page).ToArray(), part.AsSpan().ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => part.AsSpan(1, Page).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => part.AsSpan(Page + 1, 0).Length);
    }

    [Fact]
    public void A_mapping_outlives_its_descriptor_but_not_its_disposal()
    {
        var memfd = Memfd.Create("gone", Page);
        var mapping = MemoryMapping.Map(memfd, 0, Page, MappingProtection.Read | MappingProtection.Write);
        memfd.Dispose();
        mapping.AsSpan()[17] = 42;
        Assert.Equal(42, mapping.AsSpan()[17]);

        mapping.Dispose();

        Assert.Throws<ObjectDisposedException>(() => mapping.AsSpan().Length);
    }

    [Fact]
    public void Populate_allocates_every_page()
    {
        using var memfd = Memfd.Create("holes", 64 * Page);
        using var mapping = MemoryMapping.Map(memfd, 0, 64 * Page, MappingProtection.Read | MappingProtection.Write);
        var before = Native.AllocatedBytes(memfd);

        mapping.Populate();

        Assert.Equal((0, 64 * Page), (before, Native.AllocatedBytes(memfd)));
    }

    [Fact]
    public void Populating_beyond_the_end_fails_instead_of_killing()
    {
        using var memfd = Memfd.Create("short", Page);
        using var mapping = MemoryMapping.Map(memfd, 0, 2 * Page, MappingProtection.Read | MappingProtection.Write);

        Assert.Equal(Errno.EFAULT, Assert.Throws<SyscallException>(mapping.Populate).Errno);
    }

    [Fact]
    public void Huge_pages_are_huge()
    {
        const int huge = 2 << 20;
        if (!Directory.Exists("/sys/kernel/mm/hugepages/hugepages-2048kB"))
            Assert.Skip("No 2 MiB pages on this machine.");
        using var memfd = Memfd.Create("huge", 2 * huge, new MemfdOptions { HugePageSize = huge });

        var info = DescriptorInfo.Of(memfd);

        Assert.Equal((DescriptorKind.Memfd, huge), (info.Kind, info.BlockSize));
        var e = Assert.Throws<SyscallException>(() => Memfd.Create("odd", Page, new MemfdOptions { HugePageSize = huge }));
        Assert.Contains("multiple of the huge page", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nonsense_is_refused_before_the_kernel_is_asked()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Memfd.Create("n", -1));
        Assert.Throws<ArgumentException>(() => Memfd.Create(new string('x', 250), 0));
        Assert.Throws<ArgumentException>(() => Memfd.Create("a\0b", 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Memfd.Create("n", 0, new MemfdOptions { HugePageSize = 3 << 20 }));
        Memfd.Create(new string('x', 249), 0).Dispose();
    }
}
