using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd.Tests;

/// <summary>Kernel objects that the library does not make, for the tests to look at.</summary>
internal static partial class Native
{
    internal const uint KVM_CREATE_VM = 0xAE01;
    internal const uint KVM_CREATE_VCPU = 0xAE41;

    internal static SafeFileHandle Open(string path, int flags = 2) => Own(open(path, flags, 0), $"open {path}");

    internal static SafeFileHandle EventFd() => Own(eventfd(0, 0), "eventfd");

    internal static SafeFileHandle EventPoll() => Own(epoll_create1(0), "epoll_create1");

    internal static SafeFileHandle TimerFd() => Own(timerfd_create(1, 0), "timerfd_create");

    internal static SafeFileHandle Inotify() => Own(inotify_init1(0), "inotify_init1");

    internal static SafeFileHandle UserFaultFd() => Own((int)syscall(323, 1, 0), "userfaultfd");

    internal static SafeFileHandle MemfdSecret() => Own((int)syscall(447, 0, 0), "memfd_secret");

    internal static unsafe SafeFileHandle IoUring()
    {
        var parameters = stackalloc byte[120];
        new Span<byte>(parameters, 120).Clear();
        return Own((int)syscall(425, 1, (nint)parameters), "io_uring_setup");
    }

    internal static SafeFileHandle Ioctl(SafeFileHandle fd, uint request) => Own(ioctl(fd, request, 0), $"ioctl {request:x}");

    /// <summary>Lets an exec inherit it: what careless libraries do.</summary>
    internal static void ClearCloseOnExec(SafeHandle fd)
    {
        if (fcntl(fd, 2, 0) != 0)
            throw new InvalidOperationException("F_SETFD");
    }

    internal static int AllocatedBytes(SafeHandle fd) => (int)Interop.LibC.Stat(fd).Blocks * 512;

    private static SafeFileHandle Own(int result, string what) => result >= 0
        ? new SafeFileHandle(result, ownsHandle: true)
        : throw new NotSupportedException($"{what}: {Marshal.GetLastPInvokeErrorMessage()}");

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags, int mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int epoll_create1(int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int timerfd_create(int clock, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int inotify_init1(int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint first, nint second);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(SafeHandle fd, nuint request, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(SafeHandle fd, int command, int argument);
}
