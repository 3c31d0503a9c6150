using System.Runtime.InteropServices;

namespace CprSharp.Memfd;

/// <summary>A system call failed. The message names the call, its object and the error: <c>open(/dev/x): ENOENT (No such file or directory)</c>.</summary>
public sealed class SyscallException : IOException
{
    /// <summary>Builds the exception from an error number that is already at hand.</summary>
    /// <param name="syscall">The call, for example <c>memfd_create</c> or an ioctl's name.</param>
    /// <param name="subject">What the call was about: a path, a name, a descriptor; null when there is nothing to name.</param>
    /// <param name="errno">The error number, positive.</param>
    /// <param name="hint">What the caller can change, when that is known.</param>
    public SyscallException(string syscall, string? subject, int errno, string? hint = null)
        : base(Describe(syscall, subject, errno, hint))
    {
        Syscall = syscall;
        Errno = errno;
        ErrnoName = CprSharp.Memfd.Errno.Name(errno);
    }

    /// <summary>The call that failed.</summary>
    public string Syscall { get; }

    /// <summary>The error number, positive.</summary>
    public int Errno { get; }

    /// <summary>The symbolic name of <see cref="Errno"/>, for example <c>ENOENT</c>.</summary>
    public string ErrnoName { get; }

    /// <summary>Builds the exception from the error of the last P/Invoke on this thread that was declared with <c>SetLastError</c>.</summary>
    /// <param name="syscall">The call.</param>
    /// <param name="subject">What the call was about, or null.</param>
    /// <param name="hint">What the caller can change, or null.</param>
    public static SyscallException FromLastError(string syscall, string? subject, string? hint = null) =>
        new(syscall, subject, Marshal.GetLastPInvokeError(), hint);

    private static string Describe(string syscall, string? subject, int errno, string? hint)
    {
        var message = $"{syscall}({subject}): {CprSharp.Memfd.Errno.Name(errno)} ({Marshal.GetPInvokeErrorMessage(errno)})";
        return hint is null ? message : $"{message}; {hint}";
    }
}
