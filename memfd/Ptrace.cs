using System.Globalization;
using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>ptrace(2), with its failures as exceptions. Every call but <see cref="Wake"/> is for the one thread that traces.</summary>
internal static unsafe class Ptrace
{
    /// <summary>The status of a stop that PTRACE_INTERRUPT asked for.</summary>
    public const int EventStop = LibC.SIGTRAP | (128 << 8);

    /// <summary>Whether this machine's instruction set is known here.</summary>
    public static bool IsSupported => RuntimeInformation.ProcessArchitecture == Architecture.X64;

    public static bool IsSyscall(int status) => status == (LibC.SIGTRAP | 0x80);

    public static void Request(int request, int pid, nint data)
    {
        if (LibC.ptrace(request, pid, 0, data) != 0)
            throw SyscallException.FromLastError(string.Create(CultureInfo.InvariantCulture, $"ptrace {request}"), $"pid {pid}");
    }

    /// <summary>Nothing happens where it has ended.</summary>
    public static void Detach(int pid) => _ = LibC.ptrace(LibC.PTRACE_DETACH, pid, 0, 0);

    public static LibC.user_regs_t Registers(int pid)
    {
        LibC.user_regs_t registers;
        return LibC.ptrace(LibC.PTRACE_GETREGS, pid, 0, &registers) == 0 ? registers : throw SyscallException.FromLastError("PTRACE_GETREGS", $"pid {pid}");
    }

    public static void SetRegisters(int pid, LibC.user_regs_t registers)
    {
        if (LibC.ptrace(LibC.PTRACE_SETREGS, pid, 0, &registers) != 0)
            throw SyscallException.FromLastError("PTRACE_SETREGS", $"pid {pid}");
    }

    /// <summary>The system call that it is about to make; null where it is on its way back from one.</summary>
    public static SystemCall? Entry(int pid)
    {
        LibC.ptrace_syscall_info info;
        if (LibC.ptrace(LibC.PTRACE_GET_SYSCALL_INFO, pid, sizeof(LibC.ptrace_syscall_info), &info) < 0)
            throw SyscallException.FromLastError("PTRACE_GET_SYSCALL_INFO", $"pid {pid}");
        return info.op == LibC.PTRACE_SYSCALL_INFO_ENTRY ? new SystemCall((long)info.nr, info.arg0, info.arg1, info.arg2, info.arg3) : null;
    }

    /// <summary>Brings the process's first thread to its tracer, by a signal that the tracer does not pass on.</summary>
    public static void Wake(int pid) => _ = LibC.tgkill(LibC.SYS_tgkill, pid, pid, LibC.SIGURG);
}
