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
}
