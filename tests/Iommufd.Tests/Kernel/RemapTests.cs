using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Areas by virtual address become areas by file, or stay as they are.</summary>
[Collection(KernelCollection.Name)]
public sealed class RemapTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;

    public static TheoryData<bool> Attached => [false, true];

    [Theory]
    [MemberData(nameof(Attached))]
    public void What_was_mapped_by_address_is_mapped_by_file_and_may_change_its_process(bool attached)
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(16 * Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var ioas = mock.Context.AllocateIoas();
        var device = attached ? mock.Attach(ioas) : null;
        mock.Context.Map(ioas, memory.Address, 8 * Page, MapAccess.ReadWrite, Start);
        mock.Context.Map(ioas, memory.Address + (nint)(8 * Page), 4 * Page, MapAccess.Read, Start + 32 * Page);
        mock.Context.MapFile(ioas, memory.File, 0, Page, MapAccess.Read, Start + 64 * Page);
        Assert.Equal(Errno.EINVAL, Assert.Throws<IommufdException>(mock.Context.ChangeProcess).Errno);
        var picture = JournalReader.Read(file).Picture;

        var plan = Plan(ioas, picture, memory);
        Remapper.Execute(mock.Context, plan, Files(memory), attached ? DeviceQuiescence.Declared("mock devices do nothing") : DeviceQuiescence.NoneAttached(mock.Context, ioas));

        var after = JournalReader.Read(file).Picture;
        Assert.All(after.Areas, one => Assert.IsType<FileBacking>(one.Area.Backing));
        Assert.Empty(Verifier.Verify(mock.Context, after));
        mock.Context.ChangeProcess();
        if (device is null)
            return;
        Assert.True(mock.LeadsTo(device.Hwpt, Start, memory.Address, 8 * Page));
        Assert.True(mock.LeadsTo(device.Hwpt, Start + 32 * Page, memory.Address + (nint)(8 * Page), 4 * Page));
        Assert.True(mock.IsPinned(memory.Address, Page, 2)); // by the area that was by file already, too
        Assert.True(mock.IsPinned(memory.Address + (nint)Page, 11 * Page, 1));
    }

    [Fact]
    public void A_failure_half_way_leaves_everything_as_it_was()
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(16 * Page, Seals.None);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);
        for (ulong i = 0; i < 4; i++)
            mock.Context.Map(ioas, memory.Address + (nint)(i * 4 * Page), 4 * Page, MapAccess.ReadWrite, Start + i * 8 * Page);
        var before = JournalReader.Read(file).Picture;
        var plan = Plan(ioas, before, memory);
        // The third area gets a second piece that the kernel refuses: beyond the end of its file.
        var broken = plan.Replacements[2];
        var half = broken.Pieces[0] with { Range = IovaRange.Of(broken.Area.Range.Start, 2 * Page) };
        plan = plan with
        {
            Replacements = plan.Replacements.SetItem(2, broken with { Pieces = [half, half with { Range = IovaRange.Of(half.Range.Last + 1, 2 * Page), Offset = 15 * Page }] }),
        };

        var e = Assert.Throws<IommufdException>(() => Remapper.Execute(mock.Context, plan, Files(memory), DeviceQuiescence.Declared("mock devices do nothing")));

        Assert.Equal(Errno.EINVAL, e.Errno);
        var after = JournalReader.Read(file).Picture;
        Assert.Empty(Differences.Between(before, after));
        Assert.Empty(Verifier.Verify(mock.Context, after));
        for (ulong i = 0; i < 4; i++)
            Assert.True(mock.LeadsTo(device.Hwpt, Start + i * 8 * Page, memory.Address + (nint)(i * 4 * Page), 4 * Page));
        Assert.True(mock.IsPinned(memory.Address, 16 * Page, 1));
    }

    [Fact]
    public void Through_a_duplicate_without_the_addresses_it_works_as_well()
    {
        // A sidecar: another context object for the same descriptor; the plan is all it knows.
        using var memory = new GuestMemory(8 * Page);
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        var device = mock.Attach(ioas);
        mock.Context.Map(ioas, memory.Address, 8 * Page, MapAccess.ReadWrite, Start);
        using var sidecar = IommufdContext.Adopt(Descriptor.Duplicate(mock.Context.Handle));
        var area = new Area(IovaRange.Of(Start, 8 * Page), MapAccess.ReadWrite, new VirtualBacking(Environment.ProcessId, (ulong)memory.Address), 0);
        var plan = RemapPlanner.Plan(ioas, [area], Environment.ProcessId, ProcFs.Maps(Environment.ProcessId), Facts(memory));

        Remapper.Execute(sidecar, plan, Files(memory), DeviceQuiescence.Declared("mock devices do nothing"));

        Assert.True(mock.LeadsTo(device.Hwpt, Start, memory.Address, 8 * Page));
        mock.Context.ChangeProcess();
    }

    [Fact]
    public void An_attached_device_is_seen()
    {
        using var mock = new MockIommu();
        var (free, used) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        mock.Attach(used);

        Assert.Contains(free.ToString(), DeviceQuiescence.NoneAttached(mock.Context, free).Reason, StringComparison.Ordinal);
        Assert.Throws<NotQuiescedException>(() => DeviceQuiescence.NoneAttached(mock.Context, used));
        mock.Context.SetOption(ContextOption.HugePages, 0, free);
        Assert.Throws<NotQuiescedException>(() => DeviceQuiescence.NoneAttached(mock.Context, free));
    }

    private static RemapPlan Plan(IoasId ioas, AddressSpaces picture, GuestMemory memory)
    {
        var plan = RemapPlanner.Plan(ioas, picture.Ioases[ioas.Value].Areas, Environment.ProcessId, ProcFs.Maps(Environment.ProcessId), Facts(memory));
        Assert.Empty(plan.Refusals);
        return plan;
    }

    private static Dictionary<FileIdentity, FileFacts> Facts(GuestMemory memory) => new()
    {
        [memory.File.Identity] = new FileFacts(DescriptorKind.Memfd, "guest", memory.Length, DescriptorAccess.ReadWrite, MemoryFile.GetSeals(memory.Handle)),
    };

    private static Dictionary<FileIdentity, MappableFile> Files(GuestMemory memory) => new() { [memory.File.Identity] = memory.File };
}
