using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>execve(2) and what outlives it.</summary>
internal static unsafe partial class LibC
{
    internal const int F_GETFD = 1;
    internal const int F_SETFD = 2;
    internal const int FD_CLOEXEC = 1;
    internal const int SIG_BLOCK = 0;
    internal const int SIG_UNBLOCK = 1;
    internal const int SIG_SETMASK = 2;

    /// <summary>sigset_t of glibc.</summary>
    internal const int SignalSetBytes = 128;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int execve(string path, byte** argv, byte** envp);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    internal static partial int fcntl(int fd, int command, int argument);

    /// <summary>Returns the error number.</summary>
    [LibraryImport("libc")]
    internal static partial int pthread_sigmask(int how, ReadOnlySpan<byte> set, Span<byte> old);

    [LibraryImport("libc")]
    internal static partial uint alarm(uint seconds);
}
