using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Interop;

/// <summary>libc and the kernel's structures as they are: native names, one file per header.</summary>
internal static partial class LibC
{
    private const int F_SETFD = 2;
    private const int FD_CLOEXEC = 1;

    /// <summary>Whether an exec closes a descriptor.</summary>
    internal static void SetCloseOnExec(SafeHandle fd, bool enabled)
    {
        if (fcntl(fd, F_SETFD, enabled ? FD_CLOEXEC : 0) < 0)
            throw SyscallException.FromLastError("fcntl", "F_SETFD");
    }

    [LibraryImport("libc", SetLastError = true)]
    public static unsafe partial int ioctl(SafeHandle fd, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(SafeHandle fd, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint pread(SafeHandle fd, Span<byte> buffer, nuint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint pwrite(SafeHandle fd, ReadOnlySpan<byte> buffer, nuint count, long offset);
}
