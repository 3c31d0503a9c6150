using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>Log files that several processes write.</summary>
/// <remarks><see cref="FileMode.Append"/> only seeks to the end once: of two processes, one would write over what the other has written.</remarks>
public static class LogFile
{
    /// <summary>Opens a file for writing so that every write goes to its end (<c>O_APPEND</c>); creates it with mode 0600 when it is not there.</summary>
    /// <returns>A close-on-exec descriptor, the caller's.</returns>
    /// <exception cref="SyscallException"><c>open(2)</c> failed.</exception>
    public static SafeFileHandle OpenAppend(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return LibC.Open(path, LibC.O_WRONLY | LibC.O_CREAT | LibC.O_APPEND, mode: 0x180);
    }
}
