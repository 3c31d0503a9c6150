using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Journal, probe, verifier and replay against the kernel.</summary>
[Collection(KernelCollection.Name)]
public sealed class InventoryTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;

    public static TheoryData<bool> Attached => [false, true];

    [Theory]
    [MemberData(nameof(Attached))]
    public void A_replayed_journal_gives_the_same_address_spaces(bool attached)
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(64 * Page);
        using var other = new GuestMemory(16 * Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        Build(mock, memory, other, attached);

        var content = JournalReader.Read(file);
        using var copyFile = MemoryFile.Create("journal", 0);
        using var copy = new MockIommu(JournalWriter.Create(copyFile));
        var files = new[] { memory.File, other.File }.ToDictionary(f => f.Identity);
        var result = Replay.Into(content.Picture, copy.Context, files.GetValueOrDefault);

        Assert.Empty(content.Unsettled);
        Assert.Empty(Verifier.Verify(mock.Context, content.Picture));
        var replayed = JournalReader.Read(copyFile).Picture;
        Assert.Empty(Differences.Between(content.Picture, replayed, result.Ioases));
        Assert.Empty(Verifier.Verify(copy.Context, replayed));

        // The same pages behind the same addresses, by the kernel's own comparison, and pinned as often.
        foreach (var (from, to) in result.Ioases)
        {
            var hwpt = copy.Attach(to).Hwpt;
            foreach (var area in content.Picture.Ioases[from.Value].Areas)
                Assert.True(copy.LeadsTo(hwpt, area.Range.Start, AddressOf(area.Backing), area.Range.Length), area.ToString());
        }

        nint AddressOf(Backing backing) => backing switch
        {
            FileBacking f when f.File == memory.File.Identity => memory.Address + (nint)f.Offset,
            FileBacking f => other.Address + (nint)f.Offset,
            VirtualBacking v => (nint)v.Address,
            _ => throw new InvalidOperationException(),
        };
    }

    [Theory]
    [MemberData(nameof(Attached))]
    public void The_verifier_names_every_difference(bool attached)
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(64 * Page);
        using var other = new GuestMemory(16 * Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var ioas = Build(mock, memory, other, attached);
        var picture = JournalReader.Read(file).Picture;

        // Behind the journal's back, as another holder of the descriptor would.
        using var behind = IommufdContext.Adopt(Memfd.Descriptor.Duplicate(mock.Context.Handle));
        behind.Unmap(ioas, IovaRange.Of(Start, 8 * Page));
        behind.MapFile(ioas, memory.File, 0, 2 * Page, MapAccess.Read, Start);
        behind.MapFile(ioas, memory.File, 0, 3 * Page, MapAccess.ReadWrite, Start + 0x100000 * Page / 64);
        var strange = behind.AllocateIoas();

        var found = Verifier.Verify(mock.Context, picture);

        Assert.Contains(found, d => d is { Kind: DifferenceKind.NotMapped } && d.Ioas == ioas && d.Range == IovaRange.Of(Start + 2 * Page, 6 * Page));
        Assert.Contains(found, d => d is { Kind: DifferenceKind.OtherAccess } && d.Ioas == ioas && d.Range == IovaRange.Of(Start, 8 * Page));
        Assert.Contains(found, d => d is { Kind: DifferenceKind.UnexpectedlyMapped } && d.Range == IovaRange.Of(Start + 0x100000 * Page / 64, 3 * Page));
        Assert.Contains(found, d => d is { Kind: DifferenceKind.UnexpectedIoas } && d.Ioas == strange);
        Assert.Equal(4, found.Length);
    }

    [Theory]
    [MemberData(nameof(Attached))]
    public void The_probe_finds_what_is_mapped_to_the_page_and_leaves_no_trace(bool attached)
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(1 << 20);
        var ioas = mock.Context.AllocateIoas();
        if (attached)
            mock.Attach(ioas);
        var random = new Random(7);
        var expected = new List<ObservedExtent>();
        var next = Start;
        for (var i = 0; i < 40; i++)
        {
            next += (ulong)random.Next(1, 3000) * Page;
            var length = (ulong)random.Next(1, 200) * Page;
            var writable = random.Next(3) > 0;
            mock.Context.MapFile(ioas, memory.File, 0, length, writable ? MapAccess.ReadWrite : MapAccess.Read, next);
            expected.Add(new ObservedExtent(IovaRange.Of(next, length), writable));
            next += length;
        }

        using (var probe = new ContextProbe(mock.Context))
        {
            Assert.Equal([ioas], probe.FindIoases());
            Assert.Equal(expected, probe.Observe(ioas));
            Assert.False(probe.IsOccupied(ioas, new IovaRange(next, MockIommu.ApertureLast)));
            Assert.True(probe.IsOccupied(ioas, new IovaRange(Start, MockIommu.ApertureLast)));
        }

        Assert.Equal([ioas.Value], Enumerable.Range(1, 100).Select(id => (uint)id).Where(mock.Context.HasIoas));
        Assert.Equal(expected.Aggregate(0UL, (sum, e) => sum + e.Range.Length), mock.Context.Unmap(ioas, IovaRange.All));
    }

    [Fact]
    public void A_refused_call_is_in_the_journal_and_not_in_the_picture()
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        Assert.Throws<IommufdException>(() => mock.Context.MapFile(ioas, memory.File, 0, 2 * Page, MapAccess.Read));

        var content = JournalReader.Read(file);

        Assert.Empty(content.Picture.Areas);
        Assert.Empty(content.Unsettled);
        Assert.Equal(2UL, content.LastSequence);
    }

    [Fact]
    public void A_successor_continues_the_journal()
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(4 * Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var ioas = mock.Context.AllocateIoas();
        mock.Context.MapFile(ioas, memory.File, 0, 2 * Page, MapAccess.ReadWrite, Start);

        var journal = JournalWriter.Continue(file, out var sofar);
        using var successor = IommufdContext.Adopt(Memfd.Descriptor.Duplicate(mock.Context.Handle), journal);
        successor.MapFile(ioas, memory.File, 2 * Page, 2 * Page, MapAccess.ReadWrite, Start + 2 * Page);
        successor.Unmap(ioas, IovaRange.Of(Start, 2 * Page));

        Assert.Single(sofar.Picture.Areas);
        Assert.Empty(Verifier.Verify(successor, JournalReader.Read(file).Picture));
    }

    /// <summary>All sorts of areas: parts of files, read-only, by address, copies, guaranteed addresses, without huge pages.</summary>
    private static IoasId Build(MockIommu mock, GuestMemory memory, GuestMemory other, bool attached)
    {
        var context = mock.Context;
        var (first, second, third) = (context.AllocateIoas(), context.AllocateIoas(), context.AllocateIoas());
        context.SetOption(ContextOption.HugePages, 0, third);
        context.AllowIovas(second, new IovaRange(Start, MockIommu.ApertureLast));
        if (attached)
        {
            mock.Attach(first);
            mock.Attach(second);
        }

        context.MapFile(first, memory.File, 0, 8 * Page, MapAccess.ReadWrite, Start);
        context.MapFile(first, memory.File, 16 * Page, 8 * Page, MapAccess.Read, Start + 8 * Page);
        context.MapFile(first, other.File, 4 * Page, 4 * Page, MapAccess.ReadWrite, Start + 64 * Page);
        context.Map(first, other.Address, 4 * Page, MapAccess.ReadWrite, Start + 128 * Page);
        context.Copy(first, IovaRange.Of(Start + 2 * Page, 10 * Page), second, MapAccess.Read, Start + Page);
        context.Copy(first, IovaRange.Of(Start, 8 * Page), third, MapAccess.ReadWrite, Start);
        context.Unmap(first, IovaRange.Of(Start + 64 * Page, 4 * Page));
        context.MapFile(first, other.File, 0, 2 * Page, MapAccess.ReadWrite, Start + 65 * Page);
        context.MapFile(second, memory.File, 32 * Page, 4 * Page, MapAccess.ReadWrite);
        context.Destroy(context.AllocateIoas());
        return first;
    }
}
