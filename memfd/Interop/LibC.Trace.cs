using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>ptrace(2) on x86-64 (linux/ptrace.h, sys/user.h).</summary>
internal static unsafe partial class LibC
{
    internal const int PTRACE_CONT = 7;
    internal const int PTRACE_GETREGS = 12;
    internal const int PTRACE_SETREGS = 13;
    internal const int PTRACE_DETACH = 17;
    internal const int PTRACE_SYSCALL = 24;
    internal const int PTRACE_SEIZE = 0x4206;
    internal const int PTRACE_INTERRUPT = 0x4207;
    internal const int PTRACE_GET_SYSCALL_INFO = 0x420e;
    internal const int PTRACE_SYSCALL_INFO_ENTRY = 1;
    internal const int PTRACE_O_TRACESYSGOOD = 1;
    internal const int PTRACE_O_EXITKILL = 1 << 20;
    internal const int SYS_tgkill = 234;
    internal const int SIGURG = 23;
    internal const int SYS_dup3 = 292;
    internal const int WNOHANG = 1;
    internal const int WSTOPPED = 2;
    internal const int WALL = 0x40000000;
    internal const int SIGTRAP = 5;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint ptrace(nint request, nint pid, nint address, nint data);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint ptrace(nint request, nint pid, nint address, user_regs_t* data);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint ptrace(nint request, nint pid, nint size, ptrace_syscall_info* info);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint tgkill(nint number, int process, int thread, int signal);

    /// <summary>struct ptrace_syscall_info, as it is at a system call's entry.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 88)]
    internal struct ptrace_syscall_info
    {
        [FieldOffset(0)] internal byte op;
        [FieldOffset(24)] internal ulong nr;
        [FieldOffset(32)] internal ulong arg0;
        [FieldOffset(40)] internal ulong arg1;
        [FieldOffset(48)] internal ulong arg2;
        [FieldOffset(56)] internal ulong arg3;
        [FieldOffset(64)] internal ulong arg4;
        [FieldOffset(72)] internal ulong arg5;
    }

    /// <summary>struct user_regs_struct.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct user_regs_t
    {
        internal ulong r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
    }
}
