using System.Globalization;
using System.Net.Sockets;
using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>A context changes its process: by SCM_RIGHTS, over an exec, to another user, at its limit, with things in the way.</summary>
[Collection(KernelCollection.Name)]
public sealed class ProcessChangeTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;
    private const ulong Size = 256 * Page;
    private const int AnotherUser = 65000;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public void The_owner_may_take_over_from_itself_and_asking_whether_it_could_changes_nothing()
    {
        using var mock = new MockIommu();
        using var memory = new GuestMemory(4 * Page);
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        mock.Context.MapFile(ioas, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);

        Assert.True(mock.Context.CanChangeProcess());
        mock.Context.ChangeProcess();
        mock.Context.ChangeProcess();
        Assert.Equal(IommufdSupport.ChangeProcess, IommufdContext.Probe());
    }

    [Fact]
    public void Areas_by_address_and_dma_bufs_are_in_the_way_in_whichever_address_space()
    {
        using var file = MemoryFile.Create("journal", 0);
        using var memory = new GuestMemory(4 * Page);
        using var mock = new MockIommu(JournalWriter.Create(file));
        var (first, second) = (mock.Context.AllocateIoas(), mock.Context.AllocateIoas());
        mock.Attach(first);
        mock.Context.MapFile(first, memory.File, 0, 4 * Page, MapAccess.ReadWrite, Start);
        var facts = ProcessChange.FactsFor(mock.Context, Environment.ProcessId);
        using var dmaBuf = mock.CreateDmaBuf(8192);

        mock.Context.MapFile(second, MappableFile.Inspect(dmaBuf), 0, 8192, MapAccess.ReadWrite, Start);
        var byDmaBuf = Assert.IsType<ProcessChangeResult.AreasInTheWay>(ProcessChange.Execute(mock.Context, JournalReader.Read(file).Picture, facts));
        var unknown = Assert.IsType<ProcessChangeResult.AreasInTheWay>(ProcessChange.Execute(mock.Context, AddressSpaces.Empty, facts));
        mock.Context.Unmap(second, IovaRange.All);
        mock.Context.Map(second, memory.Address, Page, MapAccess.Read, Start);
        var byAddress = Assert.IsType<ProcessChangeResult.AreasInTheWay>(ProcessChange.Execute(mock.Context, JournalReader.Read(file).Picture, facts));
        mock.Context.Unmap(second, IovaRange.All);

        Assert.IsType<DmaBufBacking>(Assert.Single(byDmaBuf.Areas).Area.Backing);
        Assert.Empty(unknown.Areas);
        Assert.Equal((second, (Backing)new VirtualBacking(Environment.ProcessId, (ulong)memory.Address)), (byAddress.Areas[0].Ioas, byAddress.Areas[0].Area.Backing));
        Assert.IsType<ProcessChangeResult.Changed>(ProcessChange.Execute(mock.Context, JournalReader.Read(file).Picture, facts));
    }

    /// <summary>Both owners are charged for a moment: the same user must be allowed twice the memory, another user once, and a process that is counted by itself once.</summary>
    [Theory]
    [InlineData(OtherUser.Nobody, 2 * Size, false, true)]
    [InlineData(OtherUser.Nobody, 2 * Size - Page, false, false)]
    [InlineData(AnotherUser, Size, false, true)]
    [InlineData(AnotherUser, Size - Page, false, false)]
    [InlineData(OtherUser.Nobody, Size, true, true)]
    [InlineData(OtherUser.Nobody, Size - Page, true, false)]
    public async Task A_context_that_was_sent_is_taken_over_within_the_limit(int user, ulong limit, bool perProcess, bool allowed)
    {
        using var memory = new GuestMemory(Size);
        using var journal = MemoryFile.Create("journal", 0);
        using var mock = new MockIommu(JournalWriter.Create(journal));
        if (perProcess)
            mock.Context.SetOption(ContextOption.AccountPerProcess, 1);
        var before = ProcFs.Status(Environment.ProcessId).PinnedBytes;
        var hwpt = OtherUser.Run(OtherUser.Nobody, () =>
        {
            var ioas = mock.Context.AllocateIoas();
            mock.Context.MapFile(ioas, memory.File, 0, Size, MapAccess.ReadWrite, Start);
            return mock.Attach(ioas).Hwpt;
        });
        Assert.Equal((long)Size, ProcFs.Status(Environment.ProcessId).PinnedBytes - before);
        var (here, there) = UnixSocket.Pair();
        await using var sender = new DescriptorSocket(here);
        using (there)
        {
            await sender.SendAsync(new byte[1], [mock.Context.Handle, memory.Handle, journal], Ct);
            var (output, status) = await Children.RunAsync(
                Children.Role(
                    typeof(ProcessChangeTests),
                    nameof(Role_takes_over),
                    string.Create(CultureInfo.InvariantCulture, $"{hwpt.Value} {limit} {allowed} {user == OtherUser.Nobody} {perProcess}"),
                    user,
                    new InheritedDescriptor(there.SafeHandle, 3)),
                Ct);
            Assert.True(status.Code == 0, output);
        }

        // What was taken over went with the process that took it over: its charge is gone from here.
        Assert.Equal(allowed ? 0 : (long)Size, ProcFs.Status(Environment.ProcessId).PinnedBytes - before);
        Assert.True(mock.LeadsTo(hwpt, Start, memory.Address, Size));
        Assert.True(mock.IsPinned(memory.Address, Size, 1));
    }

    private static async Task Role_takes_over()
    {
        var words = Children.RoleArgument.Split(' ');
        var (hwpt, limit) = (new HwptId(uint.Parse(words[0], CultureInfo.InvariantCulture)), ulong.Parse(words[1], CultureInfo.InvariantCulture));
        var (allowed, sameUser, perProcess) = (bool.Parse(words[2]), bool.Parse(words[3]), bool.Parse(words[4]));
        await using var socket = new DescriptorSocket(new Socket(new SafeSocketHandle(3, ownsHandle: true)));
        using var message = await socket.ReceiveAsync(new byte[1], CancellationToken.None);
        using var mock = new MockIommu(handle: message.Descriptors.Claim(0));
        using var memory = message.Descriptors.Claim(1);
        using var journal = message.Descriptors.Claim(2);
        using var mapping = MemoryMapping.Map(memory, 0, (nuint)Size, MappingProtection.Read | MappingProtection.Write);
        var picture = JournalReader.Read(journal).Picture;
        var (_, area) = picture.Areas.Single();
        Scheduling.SetLimit(0, Resource.LockedMemory, new ResourceLimit(limit, Scheduling.GetLimit(0, Resource.LockedMemory).Hard));
        var facts = new ProcessChangeFacts(limit, Size, 0, sameUser, SameProcess: false, OldOwnerAlive: true, perProcess);

        var foretold = ProcessChange.Check(picture, facts);
        // And what the kernel does when nothing was known beforehand.
        var done = ProcessChange.Execute(mock.Context, picture, facts with { ChargedBytes = 0 });

        Assert.Equal(allowed ? null : new ProcessChangeResult.OverLimit(ProcessChange.NeededBytes(facts), limit), foretold);
        Assert.Equal(allowed ? new ProcessChangeResult.Changed() : new ProcessChangeResult.OverLimit(0, limit), done);
        Assert.Equal(allowed ? (long)Size : 0, ProcFs.Status(Environment.ProcessId).PinnedBytes);
        Assert.True(mock.LeadsTo(hwpt, area.Range.Start, mapping.DangerousGetHandle(), Size));
    }

    /// <summary>The kernel decides when memory is mapped: what CAP_IPC_LOCK has mapped is charged to nobody ever, whoever takes it over.</summary>
    [Fact]
    public void What_was_mapped_with_CAP_IPC_LOCK_needs_no_limit()
    {
        using var memory = new GuestMemory(Size);
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        mock.Context.MapFile(ioas, memory.File, 0, Size, MapAccess.ReadWrite, Start);
        var facts = ProcessChange.FactsFor(mock.Context, Environment.ProcessId);
        var limit = Scheduling.GetLimit(0, Resource.LockedMemory);
        try
        {
            Scheduling.SetLimit(0, Resource.LockedMemory, new ResourceLimit(0, limit.Hard));
            var result = OtherUser.Run(AnotherUser, () => ProcessChange.Execute(mock.Context, AddressSpaces.Empty, facts with { SameProcess = false, LockLimit = 0 }));

            Assert.Equal(0UL, facts.ChargedBytes);
            Assert.IsType<ProcessChangeResult.Changed>(result);
        }
        finally
        {
            Scheduling.SetLimit(0, Resource.LockedMemory, limit);
        }
    }

    /// <summary>An area is in the kernel's list before its memory is pinned, which takes a while.</summary>
    [Fact]
    public async Task While_an_area_is_being_mapped_it_can_be_neither_unmapped_nor_taken_over()
    {
        const ulong much = 256 << 20;
        using var memory = new GuestMemory(much);
        using var mock = new MockIommu();
        var ioas = mock.Context.AllocateIoas();
        mock.Attach(ioas);
        var facts = ProcessChange.FactsFor(mock.Context, Environment.ProcessId);
        var (busyChange, busyUnmap) = (false, false);
        for (var attempt = 0; attempt < 100 && !(busyChange && busyUnmap); attempt++)
        {
            var mapping = Task.Run(() => mock.Context.MapFile(ioas, memory.File, 0, much, MapAccess.ReadWrite, Start), Ct);
            while (!mapping.IsCompleted)
            {
                busyChange |= ProcessChange.Execute(mock.Context, AddressSpaces.Empty, facts) is ProcessChangeResult.Busy;
                busyUnmap |= UnmapIsBusy();
            }

            await mapping;
            mock.Context.Unmap(ioas, IovaRange.All);
        }

        Assert.Equal((true, true), (busyChange, busyUnmap));
        Assert.True(mock.IsPinned(memory.Address, Page, 0));
        Assert.IsType<ProcessChangeResult.Changed>(ProcessChange.Execute(mock.Context, AddressSpaces.Empty, facts));

        bool UnmapIsBusy()
        {
            try
            {
                mock.Context.Unmap(ioas, IovaRange.Of(Start, much));
                return false;
            }
            catch (IommufdException e) when (e.Errno is Errno.EBUSY or Errno.ENOENT)
            {
                return e.Errno == Errno.EBUSY;
            }
        }
    }

    /// <summary>Over an exec the same process goes on with another address space; with accounting per process the charge cannot follow.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_context_is_taken_over_after_an_exec(bool perProcess)
    {
        using var memory = new GuestMemory(Size);
        using var mock = new MockIommu();
        if (perProcess)
            mock.Context.SetOption(ContextOption.AccountPerProcess, 1);

        var (output, status) = await Children.RunAsync(
            Children.Role(
                typeof(ProcessChangeTests),
                nameof(Role_maps_and_executes_another),
                perProcess.ToString(),
                OtherUser.Nobody,
                new InheritedDescriptor(mock.Context.Handle, 3),
                new InheritedDescriptor(memory.Handle, 4)),
            Ct);

        Assert.True(status.Code == 0, output);
        Assert.Contains("after the exec: taken over", output, StringComparison.Ordinal);
        Assert.True(mock.IsPinned(memory.Address, Size, 1)); // nothing was let go of in between
    }

    private static void Role_maps_and_executes_another()
    {
        var mock = new MockIommu(handle: new SafeFileHandle(3, ownsHandle: false));
        using var memory = new SafeFileHandle(4, ownsHandle: false);
        var ioas = mock.Context.AllocateIoas();
        mock.Context.MapFile(ioas, MappableFile.Inspect(memory), 0, Size, MapAccess.ReadWrite, Start);
        var hwpt = mock.Attach(ioas).Hwpt;
        Assert.Equal((long)Size, ProcFs.Status(Environment.ProcessId).PinnedBytes);

        Children.Execute(Children.Role(typeof(ProcessChangeTests), nameof(Role_after_the_exec), $"{Children.RoleArgument} {hwpt.Value}", asUser: null));
    }

    private static void Role_after_the_exec()
    {
        var words = Children.RoleArgument.Split(' ');
        var perProcess = bool.Parse(words[0]);
        using var mock = new MockIommu(handle: new SafeFileHandle(3, ownsHandle: false));
        using var memory = new SafeFileHandle(4, ownsHandle: false);
        using var mapping = MemoryMapping.Map(memory, 0, (nuint)Size, MappingProtection.Read | MappingProtection.Write);
        var hwpt = new HwptId(uint.Parse(words[1], CultureInfo.InvariantCulture));
        var picture = AddressSpaces.Empty;
        var facts = ProcessChange.FactsForGone(mock.Context, AddressSpaces.Empty) with { ChargedBytes = Size };
        Assert.Equal(0, ProcFs.Status(Environment.ProcessId).PinnedBytes);
        Assert.True(mock.LeadsTo(hwpt, Start, mapping.DangerousGetHandle(), Size));

        var result = ProcessChange.Execute(mock.Context, picture, facts);

        Assert.Equal(perProcess ? new ProcessChangeResult.OwnerGone() : new ProcessChangeResult.Changed(), result);
        if (perProcess)
        {
            // The kernel says no and does it all the same, with a warning in its log; a second call finds nothing to do.
            Assert.Equal(Errno.EINVAL, Assert.Throws<IommufdException>(mock.Context.ChangeProcess).Errno);
            mock.Context.ChangeProcess();
        }

        Assert.Equal((long)Size, ProcFs.Status(Environment.ProcessId).PinnedBytes);
        Console.WriteLine("after the exec: taken over");
    }
}
