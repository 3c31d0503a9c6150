using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Keeps the first thread of another process from certain system calls for a while: they are not made, and it is told that they were.</summary>
/// <remarks>
/// ptrace(2): the thread stops twice for each of its system calls. The process is killed should this one end meanwhile
/// (PTRACE_O_EXITKILL), since nobody would keep it from anything then. x86-64 only.
/// </remarks>
public sealed class SyscallGuard : IDisposable
{
    private readonly PidFd _process;
    private readonly Func<SystemCall, long?> _answer;
    private readonly TaskCompletionSource _begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Thread _thread;
    private volatile bool _ending;

    private SyscallGuard(PidFd process, Func<SystemCall, long?> answer)
    {
        _process = process;
        _answer = answer;
        _thread = new Thread(Run) { IsBackground = true, Name = $"guard of pid {process.Pid}" };
    }

    /// <summary>From here on its first thread makes no system call unseen.</summary>
    /// <param name="process">A child of ours, or one that we may trace.</param>
    /// <param name="answer">What a system call returns that is not to be made; null for one that is. Called on another thread.</param>
    /// <exception cref="SyscallException">PTRACE_SEIZE: EPERM (may not be traced, or is by somebody else), ESRCH.</exception>
    /// <exception cref="PlatformNotSupportedException">Not x86-64.</exception>
    public static async Task<SyscallGuard> BeginAsync(PidFd process, Func<SystemCall, long?> answer)
    {
        if (!Ptrace.IsSupported)
            throw new PlatformNotSupportedException("x86-64 only");
        var guard = new SyscallGuard(process, answer);
        guard._thread.Start();
        await guard._begun.Task;
        return guard;
    }

    /// <summary>Lets go of it; a system call that it is in is made or not made to its end.</summary>
    public void Dispose()
    {
        _ending = true;
        if (_thread.IsAlive)
            Ptrace.Wake(_process.Pid);
        _thread.Join();
    }

    /// <summary>Ptrace belongs to a thread.</summary>
    private void Run()
    {
        var pid = _process.Pid;
        try
        {
            Ptrace.Request(LibC.PTRACE_SEIZE, pid, LibC.PTRACE_O_TRACESYSGOOD | LibC.PTRACE_O_EXITKILL);
            Ptrace.Request(LibC.PTRACE_INTERRUPT, pid, 0);
            Guard(pid);
        }
        catch (SyscallException e)
        {
            // That it has ended meanwhile is for its reaper to tell.
            Ptrace.Detach(pid);
            _begun.TrySetException(e);
        }

        _begun.TrySetException(new SyscallException("ptrace", $"pid {pid} has ended", Errno.ESRCH));
    }

    private void Guard(int pid)
    {
        long? answer = null;
        while (NextStop(pid) is { } status)
        {
            var signal = 0;
            if (Ptrace.IsSyscall(status))
                answer = Pass(pid, answer);
            else if (status == LibC.SIGURG && _ending)
                break;
            else if (status >> 8 == 0)
                signal = status;

            Ptrace.Request(LibC.PTRACE_SYSCALL, pid, signal);
            _begun.TrySetResult();
        }

        Ptrace.Detach(pid);
    }

    /// <summary>At the entry: whether it is made. At the exit: what was answered.</summary>
    private long? Pass(int pid, long? answered)
    {
        if (Ptrace.Entry(pid) is not { } call)
        {
            if (answered is { } result)
                Ptrace.SetRegisters(pid, Ptrace.Registers(pid) with { rax = (ulong)result });
            return null;
        }

        if (_answer(call) is not { } answer)
            return null;
        Ptrace.SetRegisters(pid, Ptrace.Registers(pid) with { orig_rax = ulong.MaxValue });
        return answer;
    }

    /// <returns>Its status; null when the process has ended.</returns>
    private static int? NextStop(int pid)
    {
        LibC.siginfo_t info;
        while (LibC.waitid(LibC.P_PID, pid, out info, LibC.WSTOPPED | LibC.WALL) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                return null;
        }

        return info.Status;
    }
}
