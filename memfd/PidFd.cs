using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>
/// A process, held by descriptor (pidfd_open(2)): unlike a number it never comes to mean another process. Close-on-exec.
/// </summary>
public sealed class PidFd : SafeHandle
{
    internal PidFd(nint descriptor, int pid)
        : base(-1, ownsHandle: true)
    {
        SetHandle(descriptor);
        Pid = pid;
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == -1;

    /// <summary>The process's number in our PID namespace; after the exit it may name another process.</summary>
    public int Pid { get; }

    /// <summary>Whether the process has exited (a zombie counts as exited).</summary>
    public bool HasExited => DescriptorPoller.IsReady(this, LibC.POLLIN);

    /// <summary>Opens the process that has this number now.</summary>
    /// <exception cref="SyscallException">pidfd_open: ESRCH (no such process), EINVAL (a thread, or not positive), EMFILE.</exception>
    public static PidFd Open(int pid)
    {
        var result = LibC.pidfd_open(LibC.SYS_pidfd_open, pid, 0);
        return result < 0 ? throw SyscallException.FromLastError("pidfd_open", $"pid {pid}") : new PidFd(result, pid);
    }

    /// <summary>Takes over a pidfd that the program before this one in our process has left open.</summary>
    /// <param name="descriptor">Owned by the result.</param>
    /// <exception cref="ArgumentException">It is no pidfd, or its process has been reaped.</exception>
    public static PidFd FromDescriptor(SafeFileHandle descriptor)
    {
        ArgumentNullException.ThrowIfNull(descriptor);
        var number = (int)descriptor.DangerousGetHandle();
        var info = DescriptorInfo.Read("self", number, out var details);
        if (info.Kind != DescriptorKind.PidFd || !details.TryGetValue("Pid", out var text)
            || !int.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out var pid) || pid <= 0)
            throw new ArgumentException($"Descriptor {number} ({info.Path}) is not the pidfd of a process that is there.", nameof(descriptor));
        descriptor.SetHandleAsInvalid();
        return new PidFd(number, pid);
    }

    /// <summary>Sends a signal; 0 only checks that it could be sent.</summary>
    /// <param name="signal">A signal number of this architecture (signal(7)).</param>
    /// <exception cref="SyscallException">pidfd_send_signal: ESRCH (has exited), EPERM, EINVAL.</exception>
    public void Signal(int signal)
    {
        if (LibC.pidfd_send_signal(LibC.SYS_pidfd_send_signal, this, signal, 0, 0) != 0)
            throw SyscallException.FromLastError("pidfd_send_signal", $"pid {Pid}, signal {signal}");
    }

    /// <summary>Duplicates a descriptor of that process into ours (pidfd_getfd(2)): the same open file, close-on-exec, owned by the caller.</summary>
    /// <param name="number">The descriptor's number over there.</param>
    /// <exception cref="SyscallException">pidfd_getfd: EBADF (no such descriptor), EPERM (may not be traced by us), ESRCH, EMFILE.</exception>
    public SafeFileHandle GetDescriptor(int number)
    {
        var result = LibC.pidfd_getfd(LibC.SYS_pidfd_getfd, this, number, 0);
        if (result >= 0)
            return new SafeFileHandle(result, ownsHandle: true);
        var hint = Marshal.GetLastPInvokeError() == Errno.EPERM
            ? "the right to ptrace that process is needed: same user and dumpable, or CAP_SYS_PTRACE; see kernel.yama.ptrace_scope"
            : null;
        throw SyscallException.FromLastError("pidfd_getfd", $"pid {Pid}, descriptor {number}", hint);
    }

    internal PidFd Duplicate()
    {
        using var duplicate = LibC.Duplicate(this, 0);
        var number = duplicate.DangerousGetHandle();
        duplicate.SetHandleAsInvalid();
        return new PidFd(number, Pid);
    }

    /// <summary>Completes when the process has exited. Reaps nothing, so it works for any process.</summary>
    public Task WaitForExitAsync(CancellationToken ct = default) =>
        HasExited ? Task.CompletedTask : DescriptorPoller.Shared.WaitAsync(this, LibC.POLLIN, ct);

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        using var descriptor = new SafeFileHandle(handle, ownsHandle: true);
        return true;
    }
}
