using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static partial class LibC
{
    // Numbers since 424 are the same on every architecture. glibc wraps these calls only since 2.36.
    internal const nint SYS_pidfd_send_signal = 424;
    internal const nint SYS_pidfd_open = 434;
    internal const nint SYS_pidfd_getfd = 438;
    internal const int P_PID = 1;
    internal const int P_PIDFD = 3;
    internal const int WEXITED = 4;
    internal const int CLD_EXITED = 1;
    internal const int CLD_STOPPED = 5;
    internal const int WNOWAIT = 0x1000000;
    internal const int SIGKILL = 9;
    internal const int SIGCONT = 18;
    internal const int SIGSTOP = 19;

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint pidfd_open(nint number, int pid, uint flags);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint pidfd_send_signal(nint number, SafeHandle pidfd, int signal, nint info, uint flags);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint pidfd_getfd(nint number, SafeHandle pidfd, int target, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int waitid(int idType, int id, out siginfo_t info, int options);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int waitid(int idType, SafeHandle id, out siginfo_t info, int options);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint signal(int number, nint handler);

    /// <summary>For example SIGSEGV; realtime signals have no name in libc.</summary>
    internal static string SignalName(int signal) =>
        Marshal.PtrToStringUTF8(sigabbrev_np(signal)) is { } name ? $"SIG{name}" : $"signal {signal}";

    [LibraryImport("libc")]
    private static partial nint sigabbrev_np(int signal);

    /// <summary>siginfo_t as SIGCHLD and waitid(2) fill it on LP64.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    internal struct siginfo_t
    {
        [FieldOffset(8)] internal int Code;
        [FieldOffset(16)] internal int Pid;
        [FieldOffset(24)] internal int Status;
    }
}
