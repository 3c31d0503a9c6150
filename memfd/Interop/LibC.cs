using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd.Interop;

/// <summary>libc as it is: native names, one file per kernel interface. 64-bit Linux only (LP64, asm-generic numbers).</summary>
internal static partial class LibC
{
    internal const int O_RDONLY = 0;
    internal const int O_WRONLY = 1;
    internal const int O_RDWR = 2;
    internal const int O_CREAT = 0x40;
    internal const int O_NOCTTY = 0x100;
    internal const int O_NONBLOCK = 0x800;
    internal const int O_APPEND = 0x400;
    internal const int O_CLOEXEC = 0x80000;
    internal const int O_PATH = 0x200000;
    internal const int F_GETFL = 3;
    internal const int F_SETFL = 4;
    internal const int F_DUPFD_QUERY = 1024 + 3;
    internal const int F_DUPFD_CLOEXEC = 1030;
    internal const int F_ADD_SEALS = 1033;
    internal const int F_GET_SEALS = 1034;

    internal static int O_DIRECTORY => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;

    /// <summary>Takes ownership of a descriptor that libc returned as int: the register's upper half is undefined then, so no SafeHandle can be returned by the import itself.</summary>
    internal static SafeFileHandle Adopt(int result, string syscall, string? subject, string? hint = null) =>
        result < 0 ? throw SyscallException.FromLastError(syscall, subject, hint) : new SafeFileHandle(result, ownsHandle: true);

    internal static SafeFileHandle Open(string path, int flags, uint mode = 0)
    {
        int result;
        do
            result = open(path, flags | O_CLOEXEC, mode);
        while (result < 0 && Marshal.GetLastPInvokeError() == Errno.EINTR);
        return Adopt(result, "open", path);
    }

    /// <summary>A close-on-exec duplicate with a number of at least <paramref name="minimum"/>.</summary>
    internal static SafeFileHandle Duplicate(SafeHandle descriptor, int minimum) =>
        Adopt(fcntl(descriptor, F_DUPFD_CLOEXEC, minimum), "fcntl", $"F_DUPFD_CLOEXEC, {minimum} or above", "RLIMIT_NOFILE bounds descriptor numbers");

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint read(SafeHandle fd, Span<byte> buffer, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint write(SafeHandle fd, ReadOnlySpan<byte> bytes, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int fcntl(SafeHandle fd, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ftruncate(SafeHandle fd, long length);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int rename(string from, string to);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int chmod(string path, uint mode);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int unlink(string path);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial nint readlink(string path, Span<byte> target, nuint size);
}
