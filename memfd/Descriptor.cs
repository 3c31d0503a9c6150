using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>What can be done with any descriptor.</summary>
public static class Descriptor
{
    /// <summary>Another close-on-exec descriptor of the same open file, owned by the caller.</summary>
    /// <exception cref="SyscallException">fcntl: EMFILE.</exception>
    public static SafeFileHandle Duplicate(SafeHandle fd) => LibC.Duplicate(fd, minimum: 0);

    /// <summary>Whether two descriptors are of the same open file, as duplicates are; not of two openings of one path. Linux 6.10 or later.</summary>
    /// <remarks><c>F_DUPFD_QUERY</c> of include/uapi/linux/fcntl.h.</remarks>
    /// <exception cref="SyscallException">fcntl: EINVAL, the kernel is older.</exception>
    public static bool IsSameFile(SafeHandle one, SafeHandle other)
    {
        ArgumentNullException.ThrowIfNull(other);
        var added = false;
        other.DangerousAddRef(ref added);
        try
        {
            var same = LibC.fcntl(one, LibC.F_DUPFD_QUERY, (int)other.DangerousGetHandle());
            return same < 0 ? throw SyscallException.FromLastError("fcntl", "F_DUPFD_QUERY") : same == 1;
        }
        finally
        {
            other.DangerousRelease();
        }
    }

    /// <summary>Makes operations on the open file return at once where they would wait, in every process that has it.</summary>
    /// <exception cref="SyscallException">fcntl.</exception>
    public static void SetNonBlocking(SafeHandle fd)
    {
        var flags = LibC.fcntl(fd, LibC.F_GETFL, 0);
        if (flags < 0 || LibC.fcntl(fd, LibC.F_SETFL, flags | LibC.O_NONBLOCK) < 0)
            throw SyscallException.FromLastError("fcntl", "O_NONBLOCK");
    }
}
