using System.Runtime.InteropServices;

namespace CprSharp.Memfd;

/// <summary>The error numbers (asm-generic/errno.h: the same on x86-64 and arm64) that callers commonly tell apart.</summary>
public static partial class Errno
{
    /// <summary>Operation not permitted.</summary>
    public const int EPERM = 1;

    /// <summary>No such file or directory.</summary>
    public const int ENOENT = 2;

    /// <summary>No such process.</summary>
    public const int ESRCH = 3;

    /// <summary>Interrupted system call.</summary>
    public const int EINTR = 4;

    /// <summary>Bad file descriptor.</summary>
    public const int EBADF = 9;

    /// <summary>No child processes.</summary>
    public const int ECHILD = 10;

    /// <summary>Resource temporarily unavailable (the same number as EWOULDBLOCK).</summary>
    public const int EAGAIN = 11;

    /// <summary>Cannot allocate memory.</summary>
    public const int ENOMEM = 12;

    /// <summary>Permission denied.</summary>
    public const int EACCES = 13;

    /// <summary>Device or resource busy.</summary>
    public const int EBUSY = 16;

    /// <summary>File exists.</summary>
    public const int EEXIST = 17;

    /// <summary>No such device.</summary>
    public const int ENODEV = 19;

    /// <summary>Not a directory.</summary>
    public const int ENOTDIR = 20;

    /// <summary>Invalid argument.</summary>
    public const int EINVAL = 22;

    /// <summary>Too many open files in the process.</summary>
    public const int EMFILE = 24;

    /// <summary>Inappropriate ioctl for the device.</summary>
    public const int ENOTTY = 25;

    /// <summary>Broken pipe.</summary>
    public const int EPIPE = 32;

    /// <summary>Function not implemented by this kernel.</summary>
    public const int ENOSYS = 38;

    /// <summary>Protocol option not available.</summary>
    public const int ENOPROTOOPT = 92;

    /// <summary>Operation not supported.</summary>
    public const int EOPNOTSUPP = 95;

    /// <summary>The symbolic name, for example <c>ENOENT</c>; the number as text when libc knows no name for it.</summary>
    public static string Name(int errno) => Marshal.PtrToStringUTF8(strerrorname_np(errno)) ?? $"errno {errno}";

    [LibraryImport("libc")]
    private static partial nint strerrorname_np(int errno);
}
