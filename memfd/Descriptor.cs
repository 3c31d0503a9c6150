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

    /// <summary>Makes operations on the open file return at once where they would wait, in every process that has it.</summary>
    /// <exception cref="SyscallException">fcntl.</exception>
    public static void SetNonBlocking(SafeHandle fd)
    {
        var flags = LibC.fcntl(fd, LibC.F_GETFL, 0);
        if (flags < 0 || LibC.fcntl(fd, LibC.F_SETFL, flags | LibC.O_NONBLOCK) < 0)
            throw SyscallException.FromLastError("fcntl", "O_NONBLOCK");
    }
}
