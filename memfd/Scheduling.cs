using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Where and how threads run, and what a process may use. A thread number of 0 means the calling thread.</summary>
public static class Scheduling
{
    /// <summary>More CPUs than any kernel is built for (NR_CPUS is at most 8192): ends the search for the kernel's mask size.</summary>
    private const int MaxMaskBytes = 1 << 16;

    /// <summary>The CPUs that a thread may run on, ascending.</summary>
    /// <exception cref="SyscallException">sched_getaffinity: ESRCH.</exception>
    public static IReadOnlyList<int> GetAffinity(int tid)
    {
        for (var bytes = 128; ; bytes *= 2)
        {
            var mask = new byte[bytes];
            if (LibC.sched_getaffinity(tid, (nuint)bytes, mask) == 0)
                return CpuMask.ToCpus(mask);
            // EINVAL: the kernel's own mask is longer.
            if (Marshal.GetLastPInvokeError() != Errno.EINVAL || bytes >= MaxMaskBytes)
                throw SyscallException.FromLastError("sched_getaffinity", $"thread {tid}");
        }
    }

    /// <summary>Restricts a thread to some CPUs.</summary>
    /// <param name="tid">The thread.</param>
    /// <param name="cpus">At least one CPU that exists and that the cpuset allows; others are ignored by the kernel.</param>
    /// <exception cref="SyscallException">sched_setaffinity: EINVAL (none of the CPUs can be used), EPERM, ESRCH.</exception>
    public static void SetAffinity(int tid, IReadOnlyCollection<int> cpus)
    {
        ArgumentNullException.ThrowIfNull(cpus);
        var mask = CpuMask.FromCpus(cpus);
        if (LibC.sched_setaffinity(tid, (nuint)mask.Length, mask) != 0)
            throw SyscallException.FromLastError("sched_setaffinity", $"thread {tid}, CPUs {string.Join(',', cpus)}");
    }

    /// <summary>Policy, nice value and priority of a thread.</summary>
    /// <exception cref="SyscallException">sched_getattr: ESRCH.</exception>
    public static unsafe SchedulingAttributes GetAttributes(int tid)
    {
        if (LibC.sched_getattr(LibC.SYS_sched_getattr, tid, out var attributes, (uint)sizeof(LibC.sched_attr), 0) != 0)
            throw SyscallException.FromLastError("sched_getattr", $"thread {tid}");
        return new SchedulingAttributes(
            (SchedulingPolicy)attributes.policy,
            attributes.nice,
            (int)attributes.priority,
            attributes.flags,
            attributes.runtime,
            attributes.deadline,
            attributes.period);
    }

    /// <summary>Sets policy, nice value and priority of a thread.</summary>
    /// <exception cref="SyscallException">sched_setattr: EPERM (CAP_SYS_NICE, RLIMIT_RTPRIO or RLIMIT_NICE), EINVAL, EBUSY (no deadline bandwidth), ESRCH.</exception>
    public static unsafe void SetAttributes(int tid, SchedulingAttributes a)
    {
        ArgumentNullException.ThrowIfNull(a);
        var attributes = new LibC.sched_attr
        {
            size = (uint)sizeof(LibC.sched_attr),
            policy = (uint)a.Policy,
            flags = a.Flags,
            nice = a.Nice,
            priority = (uint)a.Priority,
            runtime = a.RuntimeNanoseconds,
            deadline = a.DeadlineNanoseconds,
            period = a.PeriodNanoseconds,
        };
        if (LibC.sched_setattr(LibC.SYS_sched_setattr, tid, attributes, 0) != 0)
            throw SyscallException.FromLastError("sched_setattr", $"thread {tid}, {a}");
    }

    /// <summary>A resource limit of a process; 0 means this one.</summary>
    /// <exception cref="SyscallException">prlimit: ESRCH, EPERM.</exception>
    public static unsafe ResourceLimit GetLimit(int pid, Resource resource)
    {
        LibC.rlimit_t limit;
        return LibC.prlimit(pid, (int)resource, null, &limit) == 0
            ? new ResourceLimit(limit.soft, limit.hard)
            : throw SyscallException.FromLastError("prlimit", $"pid {pid}, {resource}");
    }

    /// <summary>Sets a resource limit of a process; 0 means this one.</summary>
    /// <returns>The limit before.</returns>
    /// <exception cref="SyscallException">prlimit: EPERM (raising the hard limit takes CAP_SYS_RESOURCE), EINVAL (soft above hard), ESRCH.</exception>
    public static unsafe ResourceLimit SetLimit(int pid, Resource resource, ResourceLimit limit)
    {
        var next = new LibC.rlimit_t { soft = limit.Soft, hard = limit.Hard };
        LibC.rlimit_t previous;
        return LibC.prlimit(pid, (int)resource, &next, &previous) == 0
            ? new ResourceLimit(previous.soft, previous.hard)
            : throw SyscallException.FromLastError("prlimit", $"pid {pid}, {resource} = {limit}");
    }
}
