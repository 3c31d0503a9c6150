using System.Runtime.InteropServices;
using CprSharp.Iommufd.Handover;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>Real descriptors of what can never be handed over, as this kernel makes them.</summary>
[Collection(KernelCollection.Name)]
public sealed partial class RefusedDescriptorTests
{
    private const nuint KVM_CREATE_VM = 0xae01;
    private const nuint KVM_CREATE_VCPU = 0xae41;
    private const nuint KVM_CREATE_DEVICE = 0xc00caee0;
    private const nuint VHOST_SET_OWNER = 0xaf01;
    private const uint KVM_DEV_TYPE_VFIO = 4;
    private const nint SYS_userfaultfd = 323, SYS_io_uring_setup = 425, SYS_memfd_secret = 447;

    [Fact]
    public void A_virtual_machine_its_processors_and_its_devices_are_refused_and_KVM_itself_is_not()
    {
        MockIommu.Require();
        using var kvm = Open("/dev/kvm");
        using var machine = Ioctl(kvm, KVM_CREATE_VM, 0);
        using var processor = Ioctl(machine, KVM_CREATE_VCPU, 0);
        var device = new uint[] { KVM_DEV_TYPE_VFIO, 0, 0 };
        Assert.Equal(0, ioctl(machine, KVM_CREATE_DEVICE, device));
        using var vfio = new SafeFileHandle((nint)device[1], ownsHandle: true);

        AssertRefused(machine, "migration");
        AssertRefused(processor, "migration");
        AssertRefused(vfio, "migration");
        using var box = new HandoverBox();
        box.Add("kvm", HandoverMeaning.Other, kvm);
    }

    [Theory]
    [InlineData("/dev/vhost-net")]
    [InlineData("/dev/vhost-vsock")]
    public void Vhost_with_an_owner_is_refused(string path)
    {
        MockIommu.Require();
        using var vhost = Open(path);
        Assert.Equal(0, ioctl(vhost, VHOST_SET_OWNER, null));

        AssertRefused(vhost, "VHOST_RESET_OWNER");
    }

    [Fact]
    public void Io_uring_userfaultfd_and_secret_memory_are_refused()
    {
        MockIommu.Require();
        using var ring = New(syscall(SYS_io_uring_setup, 4, new byte[120]));
        using var faults = New(syscall(SYS_userfaultfd, 1, null));
        using var secret = New(syscall(SYS_memfd_secret, 0, null));

        AssertRefused(ring, "drain");
        AssertRefused(faults, "postcopy");
        AssertRefused(secret, "secret");
        Assert.Equal(FileRefusal.SecretMemory, Assert.Throws<FileRefusedException>(() => MappableFile.Inspect(secret)).Refusal);
    }

    private static void AssertRefused(SafeFileHandle descriptor, string instead)
    {
        using var box = new HandoverBox();
        var e = Assert.Throws<HandoverRefusedException>(() => box.Add("it", HandoverMeaning.Other, descriptor));
        Assert.Contains(instead, e.Reason, StringComparison.Ordinal);
        Assert.Empty(box.Entries);
    }

    private static SafeFileHandle Open(string path) => File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    private static SafeFileHandle Ioctl(SafeFileHandle file, nuint request, nint argument) => New(ioctl(file, request, argument));

    private static SafeFileHandle New(nint result) =>
        result >= 0 ? new SafeFileHandle(result, ownsHandle: true) : throw SyscallException.FromLastError("ioctl or system call", "");

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(SafeHandle fd, nuint request, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(SafeHandle fd, nuint request, uint[]? argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint first, byte[]? second);
}
