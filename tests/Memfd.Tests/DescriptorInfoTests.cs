using System.IO.Pipes;
using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class DescriptorInfoTests
{
    private const int O_RDONLY = 0;
    private const int O_PATH = 0x200000;
    private const int RegularMode = 0x8180;
    private const int CharacterMode = 0x2180;

    public static TheoryData<DescriptorKind, string, int> Paths => new()
    {
        { DescriptorKind.RegularFile, "/etc/passwd", O_RDONLY },
        { DescriptorKind.Directory, "/etc", O_RDONLY },
        { DescriptorKind.MemoryDevice, "/dev/null", 2 },
        { DescriptorKind.MemoryDevice, "/dev/urandom", O_RDONLY },
        { DescriptorKind.Terminal, "/dev/ptmx", 2 },
        { DescriptorKind.Kvm, "/dev/kvm", 2 },
        { DescriptorKind.Tun, "/dev/net/tun", 2 },
        { DescriptorKind.UserFaultFd, "/dev/userfaultfd", 2 },
        { DescriptorKind.Iommufd, "/dev/iommu", 2 },
        { DescriptorKind.VfioContainer, "/dev/vfio/vfio", 2 },
        { DescriptorKind.Vhost, "/dev/vhost-net", 2 },
        { DescriptorKind.Vhost, "/dev/vhost-vsock", 2 },
        { DescriptorKind.CharacterDevice, "/dev/kmsg", O_PATH },
        { DescriptorKind.BlockDevice, "/dev/vda", O_PATH },
        { DescriptorKind.BlockDevice, "/dev/loop0", O_PATH },
    };

    [Theory]
    [MemberData(nameof(Paths))]
    public void Files_are_told_apart(DescriptorKind kind, string path, int flags)
    {
        if (!Path.Exists(path))
            Assert.Skip($"No {path} on this machine.");
        using var descriptor = Native.Open(path, flags);

        var info = DescriptorInfo.Of(descriptor);

        Assert.Equal(kind, info.Kind);
        Assert.False(info.CloseOnExec);
        Assert.Equal(flags switch { O_PATH => DescriptorAccess.None, 2 => DescriptorAccess.ReadWrite, _ => DescriptorAccess.Read }, info.Access);
    }

    [Fact]
    public void Anonymous_files_are_told_apart()
    {
        Is(DescriptorKind.EventFd, Native.EventFd);
        Is(DescriptorKind.EventPoll, Native.EventPoll);
        Is(DescriptorKind.TimerFd, Native.TimerFd);
        Is(DescriptorKind.Inotify, Native.Inotify);
        Is(DescriptorKind.PidFd, () => PidFd.Open(Environment.ProcessId));
        Is(DescriptorKind.Memfd, () => Memfd.Create("m", 1));
    }

    [Fact]
    public void Files_that_not_every_kernel_has_are_told_apart()
    {
        (DescriptorKind Kind, Func<SafeHandle> Create)[] candidates =
        [
            (DescriptorKind.UserFaultFd, Native.UserFaultFd),
            (DescriptorKind.IoUring, Native.IoUring),
            (DescriptorKind.SecretMemfd, Native.MemfdSecret),
        ];
        var seen = 0;
        foreach (var (kind, create) in candidates)
        {
            try
            {
                Is(kind, create);
                seen++;
            }
            catch (NotSupportedException e)
            {
                TestContext.Current.AddWarning(e.Message);
            }
        }

        if (seen == 0)
            Assert.Skip("This kernel has none of them.");
    }

    [Fact]
    public void Kvm_objects_are_told_apart()
    {
        if (!File.Exists("/dev/kvm"))
            Assert.Skip("No /dev/kvm on this machine.");
        using var kvm = Native.Open("/dev/kvm");
        using var vm = Native.Ioctl(kvm, Native.KVM_CREATE_VM);
        using var vcpu = Native.Ioctl(vm, Native.KVM_CREATE_VCPU);

        Assert.Equal(
            [DescriptorKind.Kvm, DescriptorKind.KvmVm, DescriptorKind.KvmVcpu],
            new[] { kvm, vm, vcpu }.Select(d => DescriptorInfo.Of(d).Kind));
    }

    [Fact]
    public void Sockets_and_pipes_are_told_apart()
    {
        var (first, second) = UnixSocket.Pair();
        using (first)
        using (second)
            Assert.Equal(DescriptorKind.Socket, DescriptorInfo.Of(first.SafeHandle).Kind);
        using var pipe = new AnonymousPipeServerStream(PipeDirection.Out);

        Assert.Equal((DescriptorKind.Pipe, DescriptorAccess.Write), (DescriptorInfo.Of(pipe.SafePipeHandle).Kind, DescriptorInfo.Of(pipe.SafePipeHandle).Access));
        Assert.Equal(DescriptorAccess.Read, DescriptorInfo.Of(pipe.ClientSafePipeHandle).Access);
    }

    [Fact]
    public void A_file_on_tmpfs_is_shared_memory_even_when_it_poses_as_a_memfd()
    {
        if (!Directory.Exists("/dev/shm"))
            Assert.Skip("No /dev/shm on this machine.");
        var path = $"/dev/shm/memfd:{Guid.NewGuid():N}";
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, options: FileOptions.DeleteOnClose);
        RandomAccess.SetLength(file, 1234);

        var info = DescriptorInfo.Of(file);

        Assert.Equal((DescriptorKind.ShmemFile, 1234L, path), (info.Kind, info.Size, info.Path));
    }

    [Fact]
    public void Two_descriptors_of_one_file_have_one_identity()
    {
        using var memfd = Memfd.Create("same", 1);
        using var other = Memfd.Create("same", 1);
        using var duplicate = Descriptor.Duplicate(memfd);

        var (a, b, c) = (DescriptorInfo.Of(memfd), DescriptorInfo.Of(duplicate), DescriptorInfo.Of(other));

        Assert.Equal((a.Device, a.Inode), (b.Device, b.Inode));
        Assert.NotEqual(a.Inode, c.Inode);
        Assert.True(b.CloseOnExec);
    }

    // Hardware that this machine may not have: names as sysfs of Linux 7.3 gives them.
    [Theory]
    [InlineData(DescriptorKind.Iommufd, 10, 261, "virtual/misc/iommu")]
    [InlineData(DescriptorKind.VfioDevice, 511, 0, "pci0000:00/0000:00:03.0/vfio-dev/vfio0")]
    [InlineData(DescriptorKind.VfioGroup, 240, 7, "virtual/vfio/7")]
    [InlineData(DescriptorKind.VfioContainer, 10, 196, null)]
    [InlineData(DescriptorKind.Vhost, 10, 238, "virtual/misc/vhost-net")]
    [InlineData(DescriptorKind.Vhost, 10, 300, "virtual/misc/vhost-scsi")]
    [InlineData(DescriptorKind.Vhost, 243, 0, "vdpa0/vhost-vdpa-0")]
    [InlineData(DescriptorKind.MacVtap, 244, 1, "pci0000:00/0000:00:04.0/virtio1/net/macvtap0/macvtap/tap12")]
    [InlineData(DescriptorKind.CharacterDevice, 509, 3, null)]
    public void Devices_are_classified_by_number_or_sysfs(DescriptorKind kind, uint major, uint minor, string? sysfs) =>
        Assert.Equal(kind, DescriptorClassifier.Classify("/dev/any", CharacterMode, new DeviceNumber(major, minor), () => 0, _ => sysfs));

    [Theory]
    [InlineData(DescriptorKind.VfioDevice, "anon_inode:[vfio-device]", 0x180)]
    [InlineData(DescriptorKind.KvmVcpu, "anon_inode:kvm-vcpu:12", 0x180)]
    [InlineData(DescriptorKind.KvmOther, "anon_inode:kvm-vcpu-stats:12", 0x180)]
    [InlineData(DescriptorKind.KvmOther, "anon_inode:kvm-vfio", 0x180)]
    [InlineData(DescriptorKind.GuestMemfd, "anon_inode:[kvm-gmem]", RegularMode)]
    [InlineData(DescriptorKind.GuestMemfd, "/[kvm-gmem] (deleted)", RegularMode)]
    [InlineData(DescriptorKind.DmaBuf, "/dmabuf:", RegularMode)]
    [InlineData(DescriptorKind.PidFd, "anon_inode:[pidfd]", 0x180)]
    [InlineData(DescriptorKind.PidFd, "pidfd:[4711]", RegularMode)]
    [InlineData(DescriptorKind.Unknown, "anon_inode:[something-new]", 0x180)]
    public void Pseudo_files_are_classified_by_the_kernels_name(DescriptorKind kind, string link, int mode) =>
        Assert.Equal(kind, DescriptorClassifier.Classify(link, mode, default, () => 0, _ => null));

    [Fact]
    public void A_closed_descriptor_is_refused()
    {
        var closed = Memfd.Create("x", 0);
        closed.Dispose();

        Assert.Throws<ObjectDisposedException>(() => DescriptorInfo.Of(closed));
        Assert.Equal("EBADF", Assert.Throws<SyscallException>(() => Memfd.GetSize(new SafeFileHandle(int.MaxValue, ownsHandle: false))).ErrnoName);
    }

    private static void Is(DescriptorKind kind, Func<SafeHandle> create)
    {
        using var descriptor = create();
        Assert.Equal(kind, DescriptorInfo.Of(descriptor).Kind);
    }
}
