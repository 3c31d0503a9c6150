using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Iommufd.Handover;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Handover;

public sealed partial class HandoverBoxTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private static uint User => ProcFs.Status(Environment.ProcessId).UserIds.Real;

    [Theory]
    [InlineData(DescriptorKind.KvmVm, "anon_inode:kvm-vm", "migration")]
    [InlineData(DescriptorKind.KvmVcpu, "anon_inode:kvm-vcpu:0", "migration")]
    [InlineData(DescriptorKind.KvmOther, "anon_inode:kvm-vfio", "migration")]
    [InlineData(DescriptorKind.GuestMemfd, "anon_inode:kvm-gmem", "its own")]
    [InlineData(DescriptorKind.Vhost, "/dev/vhost-net", "VHOST_RESET_OWNER")]
    [InlineData(DescriptorKind.UserFaultFd, "anon_inode:[userfaultfd]", "postcopy")]
    [InlineData(DescriptorKind.IoUring, "anon_inode:[io_uring]", "drain")]
    [InlineData(DescriptorKind.CharacterDevice, "/dev/kfd", "CRIU")]
    public void What_is_bound_to_its_process_is_refused_with_what_to_do_instead(DescriptorKind kind, string path, string instead)
    {
        Assert.Contains(instead, HandoverRules.Check(kind, path), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(DescriptorKind.Iommufd)]
    [InlineData(DescriptorKind.VfioDevice)]
    [InlineData(DescriptorKind.Memfd)]
    [InlineData(DescriptorKind.EventFd)]
    [InlineData(DescriptorKind.Kvm)]
    [InlineData(DescriptorKind.Tun)]
    [InlineData(DescriptorKind.Socket)]
    [InlineData(DescriptorKind.CharacterDevice)]
    public void What_is_not_bound_may_go(DescriptorKind kind) => Assert.Null(HandoverRules.Check(kind, "/dev/something"));

    [Fact]
    public void A_real_descriptor_is_refused_when_it_is_registered()
    {
        const nint userfaultfd = 323;
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
            Assert.Skip("The number of userfaultfd(2) is that of x86-64.");
        var number = syscall(userfaultfd, 1); // UFFD_USER_MODE_ONLY
        if (number < 0)
            Assert.Skip($"This kernel has no userfaultfd: {Errno.Name(Marshal.GetLastPInvokeError())}.");
        using var descriptor = new SafeFileHandle(number, ownsHandle: true);
        using var box = new HandoverBox();

        var e = Assert.Throws<HandoverRefusedException>(() => box.Add("faults", HandoverMeaning.Queue, descriptor));

        Assert.Contains("faults (anon_inode:[userfaultfd])", e.Message, StringComparison.Ordinal);
        Assert.Empty(box.Entries);
    }

    [Fact]
    public void A_meaning_has_to_fit_and_a_name_is_given_once_and_a_sealed_box_stays_closed()
    {
        using var memory = MemoryFile.Create("ram", 4096);
        using var box = new HandoverBox();
        box.Add("ram", HandoverMeaning.Memory, memory);

        Assert.Throws<ArgumentException>(() => box.Add("device", HandoverMeaning.Device, memory));
        Assert.Throws<ArgumentException>(() => box.Add("context", HandoverMeaning.Context, memory));
        Assert.Throws<ArgumentException>(() => box.Add("ram", HandoverMeaning.Memory, memory));
        using var isSealed = box.Seal();
        Assert.Throws<InvalidOperationException>(() => box.Add("more", HandoverMeaning.Memory, memory));
        Assert.Throws<InvalidOperationException>(box.Seal);
        Assert.Equal(new HandoverEntry("ram", HandoverMeaning.Memory, DescriptorKind.Memfd, FileIdentity.Of(memory)), Assert.Single(isSealed.Entries));
    }

    [Fact]
    public async Task A_box_is_sent_once_each_entry_is_claimed_once_and_the_rest_is_closed_and_reported()
    {
        using var ram = MemoryFile.Create("ram", 4096);
        using var journal = MemoryFile.Create("journal", 0);
        var (here, there) = Sockets();
        await using var sender = here;
        await using var receiver = there;
        using var self = PidFd.Open(Environment.ProcessId);
        using var box = Box(("ram", HandoverMeaning.Memory, ram), ("journal", HandoverMeaning.Journal, journal));
        using var isSealed = box.Seal();

        await isSealed.SendAsync(sender, self, User, Ct);
        await Assert.ThrowsAsync<InvalidOperationException>(() => isSealed.SendAsync(sender, self, User, Ct));
        Assert.Throws<InvalidOperationException>(() => isSealed.Keep());
        var received = await ReceivedBox.ReceiveAsync(receiver, User, Ct);

        Assert.Equal(["ram", "journal"], received.Entries.Select(entry => entry.Name));
        using (var claimed = received.Claim("ram"))
            Assert.Equal(FileIdentity.Of(ram), FileIdentity.Of(claimed));
        Assert.Contains("claimed already", Assert.Throws<InvalidOperationException>(() => received.Claim("ram")).Message, StringComparison.Ordinal);
        Assert.Contains("no disk", Assert.Throws<InvalidOperationException>(() => received.Claim("disk")).Message, StringComparison.Ordinal);
        Assert.Equal(2, Own(journal));
        received.Dispose();
        Assert.Equal(1, Own(journal));
        Assert.Equal(["journal"], received.Unclaimed.Select(entry => entry.Name));
    }

    [Fact]
    public async Task Nobody_but_the_recipient_gets_it_and_it_can_still_be_sent()
    {
        using var ram = MemoryFile.Create("ram", 4096);
        var (here, there) = Sockets();
        await using var sender = here;
        await using var receiver = there;
        using var self = PidFd.Open(Environment.ProcessId);
        using var other = PidFd.Open(1);
        using var box = Box(("ram", HandoverMeaning.Memory, ram));
        using var isSealed = box.Seal();

        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => isSealed.SendAsync(sender, other, User, Ct));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => isSealed.SendAsync(sender, self, User + 1, Ct));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => ReceivedBox.ReceiveAsync(receiver, User + 1, Ct));
        await isSealed.SendAsync(sender, self, User, Ct);

        using var received = await ReceivedBox.ReceiveAsync(receiver, User, Ct);
        Assert.Single(received.Unclaimed);
    }

    [Fact]
    public async Task What_is_no_box_or_not_what_its_list_says_is_closed()
    {
        using var ram = MemoryFile.Create("ram", 4096);
        var (here, there) = Sockets();
        await using var sender = here;
        await using var receiver = there;
        var entry = new HandoverEntry("ram", HandoverMeaning.Memory, DescriptorKind.Memfd, FileIdentity.Of(ram) with { Inode = 1 });
        byte[][] wrong = [[1, 2, 3], new Manifest(0, 0, [entry], []).Encode(), new Manifest(0, 0, [], []).Encode(), new Manifest(1, 0, [entry], [7]).Encode()];
        foreach (var message in wrong)
        {
            await sender.SendAsync(message, [ram], Ct);
            await Assert.ThrowsAsync<InvalidDataException>(() => ReceivedBox.ReceiveAsync(receiver, User, Ct));
        }

        Assert.Equal(1, Own(ram));
        for (var cut = 0; cut < wrong[1].Length; cut++)
            Assert.Throws<InvalidDataException>(() => Manifest.Decode(wrong[1].AsSpan(0, cut)));
    }

    [Fact]
    public async Task A_box_is_kept_across_an_exec()
    {
        using var ram = MemoryFile.Create("ram", 4096);

        var (output, status) = await Children.RunAsync(
            Children.Role(typeof(HandoverBoxTests), nameof(Role_keeps_a_box_and_executes), "", asUser: null, new InheritedDescriptor(ram, 3)), Ct);

        Assert.True(status.Code == 0, output);
        Assert.Contains("opened after the exec", output, StringComparison.Ordinal);
    }

    private static void Role_keeps_a_box_and_executes()
    {
        using var ram = new SafeFileHandle(3, ownsHandle: true);
        using var box = Box(("ram", HandoverMeaning.Memory, ram), ("bell", HandoverMeaning.EventFd, new SafeFileHandle(eventfd(7, 0x80000), ownsHandle: true)));
        using var isSealed = box.Seal();
        var number = isSealed.Keep();
        ram.Dispose();
        Assert.Throws<InvalidOperationException>(() => isSealed.Keep());

        Children.Execute(Children.Role(
            typeof(HandoverBoxTests), nameof(Role_opens_the_box), number.ToString(CultureInfo.InvariantCulture), asUser: null));
    }

    private static void Role_opens_the_box()
    {
        var number = int.Parse(Children.RoleArgument, CultureInfo.InvariantCulture);
        using var box = ReceivedBox.Open(number);
        using var ram = box.Claim("ram");
        Assert.Equal(4096, MemoryFile.GetSize(ram));
        Assert.True(DescriptorInfo.Of(ram).CloseOnExec);
        Assert.Equal(["bell"], box.Unclaimed.Select(entry => entry.Name));
        // The list is gone: it opens once.
        Assert.ThrowsAny<IOException>(() => ReceivedBox.Open(number));
        Console.WriteLine("opened after the exec");
    }

    [Fact]
    public void A_box_that_was_kept_comes_back_when_the_exec_fails_and_belongs_to_no_other_process()
    {
        using var ram = MemoryFile.Create("ram", 4096);
        using var box = Box(("ram", HandoverMeaning.Memory, ram));
        var number = box.Seal().Keep();

        using (var received = ReceivedBox.Open(number))
        {
            using var claimed = received.Claim("ram");
            Assert.Equal(FileIdentity.Of(ram), FileIdentity.Of(claimed));
        }

        var foreign = new Manifest(1, 0, [], []).Encode();
        var list = MemoryFile.Create("foreign", foreign.Length);
        RandomAccess.Write(list, foreign, 0);
        MemoryFile.AddSeals(list, Seals.Write | Seals.Shrink | Seals.Grow);
        using var copy = Descriptor.Duplicate(list);
        Assert.Throws<InvalidDataException>(() => ReceivedBox.Open((int)list.DangerousGetHandle()));
        list.SetHandleAsInvalid(); // closed by Open
        Assert.Throws<InvalidDataException>(() => ReceivedBox.Open((int)ram.DangerousGetHandle()));
        Assert.Equal(4096, MemoryFile.GetSize(ram));
    }

    private static HandoverBox Box(params (string Name, HandoverMeaning Meaning, SafeHandle Descriptor)[] content)
    {
        var box = new HandoverBox();
        foreach (var (name, meaning, descriptor) in content)
            box.Add(name, meaning, descriptor);
        return box;
    }

    private static (DescriptorSocket Here, DescriptorSocket There) Sockets()
    {
        var (here, there) = UnixSocket.Pair(SocketType.Seqpacket);
        return (new DescriptorSocket(here), new DescriptorSocket(there));
    }

    /// <summary>How many descriptors of this process lead to the file.</summary>
    private static int Own(SafeHandle file)
    {
        var identity = FileIdentity.Of(file);
        return ProcFs.Descriptors(Environment.ProcessId).Count(one => FileIdentity.Of(one.Info) == identity);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int eventfd(uint initial, int flags);
}
