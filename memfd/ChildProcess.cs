using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>
/// A child with exactly the descriptors that were named, every signal at its default and none blocked (posix_spawn(3)); the
/// framework's Process leaks inheritable descriptors and an ignored SIGPIPE instead.
/// </summary>
public sealed class ChildProcess : IAsyncDisposable
{
    private ChildProcess(PidFd pidFd, PidFd reaper)
    {
        PidFd = pidFd;
        Exited = ReapAsync(reaper);
    }

    /// <summary>The child's number; it is not reused before <see cref="Exited"/> completes.</summary>
    public int Pid => PidFd.Pid;

    /// <summary>The child by descriptor; closed on Dispose.</summary>
    public PidFd PidFd { get; }

    /// <summary>Completes when the child has exited and has been reaped. Goes on working after Dispose.</summary>
    public Task<ExitStatus> Exited { get; }

    /// <summary>Starts a child.</summary>
    /// <remarks>
    /// Its descriptors, signals and directory are final on return, but for some microseconds more the kernel is still filling in
    /// what /proc says about command line, environment and name: they may read as empty, or as ours.
    /// </remarks>
    /// <exception cref="SyscallException">
    /// posix_spawn: ENOENT, EACCES, ENOEXEC and whatever else execve(2) says, naming the program; open: the working directory.
    /// </exception>
    /// <exception cref="ArgumentException">A descriptor number is below 3 or given twice; a string holds a NUL.</exception>
    public static ChildProcess Start(ChildProcessStart s)
    {
        ArgumentNullException.ThrowIfNull(s);
        return s.EndsWithParent ? ParentThread.Start(() => StartHere(ParentThread.EndingWithUs(s))) : StartHere(s);
    }

    /// <summary>Sends a signal.</summary>
    /// <param name="signal">A signal number (signal(7)).</param>
    /// <exception cref="SyscallException">pidfd_send_signal: ESRCH when the child has been reaped.</exception>
    public void Signal(int signal) => PidFd.Signal(signal);

    /// <summary>Closes <see cref="PidFd"/>. Does not end the child: it runs on, and is reaped when it exits.</summary>
    public ValueTask DisposeAsync()
    {
        PidFd.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>A child that the program before this one in our process has started: over an exec it stays ours to wait for.</summary>
    /// <param name="child">Owned by the result.</param>
    public static ChildProcess Inherited(PidFd child)
    {
        ArgumentNullException.ThrowIfNull(child);
        return new ChildProcess(child, child.Duplicate());
    }

    /// <summary>Stops the child (SIGSTOP) and waits until none of its threads runs any more.</summary>
    /// <returns>Whether it stands; false when it has ended. <see cref="Resume"/> lets it go on.</returns>
    /// <exception cref="SyscallException">pidfd_send_signal, waitid.</exception>
    public async Task<bool> StopAsync()
    {
        try
        {
            Signal(LibC.SIGSTOP);
        }
        catch (SyscallException e) when (e.Errno == Errno.ESRCH)
        {
            return false;
        }

        return await Task.Run(() =>
        {
            // Left unreaped and unconsumed: whoever waits for the child's end must still learn of it.
            LibC.siginfo_t info;
            while (LibC.waitid(LibC.P_PIDFD, PidFd, out info, LibC.WSTOPPED | LibC.WEXITED | LibC.WNOWAIT) != 0)
            {
                var errno = Marshal.GetLastPInvokeError();
                if (errno == Errno.ECHILD)
                    return false;
                if (errno != Errno.EINTR)
                    throw new SyscallException("waitid", $"pid {Pid}", errno);
            }

            return info.Code == LibC.CLD_STOPPED;
        }).ConfigureAwait(false);
    }

    /// <summary>Lets a stopped child go on (SIGCONT).</summary>
    /// <exception cref="SyscallException">pidfd_send_signal: ESRCH when the child has been reaped.</exception>
    public void Resume() => Signal(LibC.SIGCONT);

    private static ChildProcess StartHere(ChildProcessStart s)
    {
        var pid = Spawner.Spawn(s);
        PidFd? pidFd = null;
        try
        {
            // Until somebody waits for it the number stays the child's, even when it has exited already.
            pidFd = PidFd.Open(pid);
            return new ChildProcess(pidFd, pidFd.Duplicate());
        }
        catch
        {
            pidFd?.Dispose();
            _ = LibC.kill(pid, LibC.SIGKILL);
            _ = LibC.waitid(LibC.P_PID, pid, out _, LibC.WEXITED);
            throw;
        }
    }

    private static async Task<ExitStatus> ReapAsync(PidFd reaper)
    {
        using (reaper)
        {
            await reaper.WaitForExitAsync(CancellationToken.None).ConfigureAwait(false);
            return Reap(reaper);
        }
    }

    internal static ExitStatus Reap(PidFd reaper)
    {
        LibC.siginfo_t info;
        while (LibC.waitid(LibC.P_PIDFD, reaper, out info, LibC.WEXITED) != 0)
        {
            var errno = Marshal.GetLastPInvokeError();
            if (errno == Errno.ECHILD)
                return default;
            if (errno != Errno.EINTR)
                throw new SyscallException("waitid", $"pid {reaper.Pid}", errno);
        }

        return info.Code == LibC.CLD_EXITED ? new ExitStatus(info.Status, null) : new ExitStatus(null, info.Status);
    }
}
