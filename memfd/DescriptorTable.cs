using System.Diagnostics;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Changes the descriptors of another process, which has the files already but at other numbers.</summary>
/// <remarks>
/// The process is stopped for some ten microseconds per descriptor (ptrace(2)), and its main thread made to call dup3(2). What that thread
/// did goes on as if nothing had been: an interrupted system call is restarted by the kernel. x86-64 only.
/// </remarks>
public static class DescriptorTable
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(1);

    /// <summary>Whether this machine's instruction set is known here.</summary>
    public static bool IsSupported => Ptrace.IsSupported;

    /// <summary>Makes each <c>To</c> another number of the file at <c>From</c>, as dup3(from, to, O_CLOEXEC) in that process.</summary>
    /// <param name="process">A child of ours, or one that we may trace.</param>
    /// <param name="changes">Numbers over there.</param>
    /// <exception cref="SyscallException">PTRACE_SEIZE: EPERM (may not be traced, or is by somebody else), ESRCH; dup3: EBADF.</exception>
    /// <exception cref="TimeoutException">The thread did not stop within a second: it is in an uninterruptible wait.</exception>
    public static void Duplicate(PidFd process, IReadOnlyList<(int From, int To)> changes)
    {
        if (!IsSupported)
            throw new PlatformNotSupportedException("x86-64 only");
        Ptrace.Request(LibC.PTRACE_SEIZE, process.Pid, LibC.PTRACE_O_TRACESYSGOOD);
        try
        {
            Ptrace.Request(LibC.PTRACE_INTERRUPT, process.Pid, 0);
            ToEventStop(process);
            var syscall = SyscallInstruction(process.Pid);
            var before = Ptrace.Registers(process.Pid);
            SyscallException? failed = null;
            for (var i = 0; i < changes.Count && failed is null; i++)
                failed = Duplicate(process, syscall, changes[i].From, changes[i].To, before);

            // Stopped once more, where a signal would be handled: only there the kernel restarts what was interrupted.
            Ptrace.Request(LibC.PTRACE_INTERRUPT, process.Pid, 0);
            Ptrace.Request(LibC.PTRACE_CONT, process.Pid, 0);
            ToEventStop(process);
            Ptrace.SetRegisters(process.Pid, before);
            if (failed is not null)
                throw failed;
        }
        finally
        {
            // Fails only for a process that has ended, or did not stop; then there is an exception already, which says so.
            Ptrace.Detach(process.Pid);
        }
    }

    /// <returns>Why it failed; null if it did not.</returns>
    private static SyscallException? Duplicate(PidFd process, ulong syscall, int from, int to, LibC.user_regs_t before)
    {
        var call = before with { rip = syscall, rax = LibC.SYS_dup3, rdi = (ulong)from, rsi = (ulong)to, rdx = LibC.O_CLOEXEC, orig_rax = ulong.MaxValue };
        Ptrace.SetRegisters(process.Pid, call);
        ToSyscallStop(process);
        ToSyscallStop(process);
        var result = (long)Ptrace.Registers(process.Pid).rax;
        return result < 0 ? new SyscallException("dup3", $"{from}, {to} in pid {process.Pid}", (int)-result) : null;
    }

    private static void ToEventStop(PidFd process)
    {
        while (Wait(process) is var status && status != Ptrace.EventStop)
        {
            // Any other stop, such as a signal's, takes the request away.
            Ptrace.Request(LibC.PTRACE_INTERRUPT, process.Pid, 0);
            Ptrace.Request(LibC.PTRACE_CONT, process.Pid, Ptrace.IsSyscall(status) ? 0 : status & 0x7f);
        }
    }

    private static void ToSyscallStop(PidFd process)
    {
        Ptrace.Request(LibC.PTRACE_SYSCALL, process.Pid, 0);
        while (Wait(process) is var status && !Ptrace.IsSyscall(status))
            Ptrace.Request(LibC.PTRACE_SYSCALL, process.Pid, status >> 8 != 0 ? 0 : status & 0x7f);
    }

    /// <summary>Waits for the next stop only: the end of a child is for its reaper to see.</summary>
    private static int Wait(PidFd process)
    {
        var watch = Stopwatch.StartNew();
        var spin = default(SpinWait);
        while (true)
        {
            if (LibC.waitid(LibC.P_PID, process.Pid, out var info, LibC.WNOHANG | LibC.WSTOPPED | LibC.WALL) != 0)
                throw SyscallException.FromLastError("waitid", $"pid {process.Pid}");
            if (info.Pid != 0)
                return info.Status;
            if (process.HasExited)
                throw new SyscallException("waitid", $"pid {process.Pid} has ended", Errno.ESRCH);
            if (watch.Elapsed > Longest)
                throw new TimeoutException($"pid {process.Pid} did not stop within {Longest.TotalSeconds:0} s");
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    /// <summary>The kernel maps one into every process: in the vDSO, which falls back to real system calls.</summary>
    private static ulong SyscallInstruction(int pid)
    {
        var line = File.ReadLines($"/proc/{pid}/maps").FirstOrDefault(l => l.EndsWith("[vdso]", StringComparison.Ordinal))
            ?? throw new IOException($"pid {pid} has no vDSO");
        var range = line.Split(' ')[0].Split('-');
        var start = ulong.Parse(range[0], System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture);
        var end = ulong.Parse(range[1], System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture);
        var code = new byte[end - start];
        using var memory = File.OpenHandle($"/proc/{pid}/mem");
        var read = RandomAccess.Read(memory, code, (long)start);
        var at = code.AsSpan(0, read).IndexOf((ReadOnlySpan<byte>)[0x0f, 0x05]);
        return at < 0 ? throw new IOException($"the vDSO of pid {pid} makes no system call") : start + (ulong)at;
    }
}
