using CprSharp.Memfd;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Real-time scheduling, for the few milliseconds of the pause, for everything that it waits for, on processors that are awake.</summary>
/// <remarks>
/// Measured on a busy host (24 pairs): raising all threads of both VMMs and our own makes the pause 0.75 (transfer) and 0.70 (shared-ram)
/// of what it was, and halves its 90th percentile. Raising only the main threads does nothing: the new one waits for the big lock,
/// which vCPU and RCU threads hold while they in turn wait for a processor. Needs CAP_SYS_NICE or RLIMIT_RTPRIO, or a process that has them and
/// does it for us; without them nothing is changed. To set back takes no privilege, but for SCHED_RESET_ON_FORK, which is not used for
/// that. vCPU threads under KVM are left out: they run guest code without end, and what KVM waits for (SRCU, by kernel workers of ordinary
/// priority) never gets a processor beside them; measured: a virtual host of two processors stood still.
/// </remarks>
internal sealed class PauseBoost : IDisposable
{
    public static readonly SchedulingAttributes RealTime = new(SchedulingPolicy.RoundRobin, Priority: 1);

    private readonly List<int> _processes = [];
    private readonly Dictionary<int, SchedulingAttributes> _before = [];
    private WakefulProcessors? _awake;

    /// <summary>Raises the threads that are not scheduled in real time already.</summary>
    /// <param name="processes">The VMMs and whoever directs them.</param>
    /// <param name="except">Threads to leave as they are.</param>
    /// <param name="loan">Who does it where we may not.</param>
    /// <returns>The boost, to be disposed when the guest runs again; null when it is not permitted.</returns>
    public static PauseBoost? TryBegin(IReadOnlyCollection<int> processes, IReadOnlySet<int> except, RealTimeLoan? loan)
    {
        var boost = new PauseBoost { _awake = WakefulProcessors.TryBegin() };
        try
        {
            foreach (var pid in processes)
                boost.Note(pid);
            if (TryRaise(boost._before, except) || loan?.TryRaise(processes, except) == true)
                return boost;
        }
        catch (SyscallException)
        {
            // A process has ended.
        }

        boost.Dispose();
        return null;
    }

    /// <summary>Takes a boost back whose supervisor was lost.</summary>
    public static void Undo(int pid)
    {
        var plain = new SchedulingAttributes(SchedulingPolicy.Other);
        foreach (var thread in ProcFs.Threads(pid).Where(IsBoosted))
            TrySet(thread, plain);
    }

    /// <summary>Sets back what was raised, and the threads that have inherited it since.</summary>
    public void Dispose()
    {
        foreach (var pid in _processes)
        {
            foreach (var thread in ThreadsOf(pid).Where(IsBoosted))
                TrySet(thread, _before.GetValueOrDefault(thread) ?? _before[pid]);
        }

        _processes.Clear();
        _awake?.Dispose();
    }

    private void Note(int pid)
    {
        _before[pid] = Scheduling.GetAttributes(pid);
        _processes.Add(pid);
        foreach (var thread in ProcFs.Threads(pid))
        {
            if (TryGet(thread) is { } before)
                _before[thread] = before;
        }
    }

    private static bool TryRaise(IReadOnlyDictionary<int, SchedulingAttributes> before, IReadOnlySet<int> except)
    {
        try
        {
            foreach (var (thread, attributes) in before)
            {
                if (attributes.Policy is SchedulingPolicy.Other or SchedulingPolicy.Batch or SchedulingPolicy.Idle && !except.Contains(thread))
                    TrySet(thread, RealTime);
            }

            return true;
        }
        catch (SyscallException)
        {
            return false; // EPERM
        }
    }

    private static IReadOnlyList<int> ThreadsOf(int pid)
    {
        try
        {
            return ProcFs.Threads(pid);
        }
        catch (IOException)
        {
            return []; // it has ended
        }
    }

    private static bool IsBoosted(int thread) => TryGet(thread) is { Policy: SchedulingPolicy.RoundRobin, Priority: 1 };

    private static SchedulingAttributes? TryGet(int thread)
    {
        try
        {
            return Scheduling.GetAttributes(thread);
        }
        catch (SyscallException e) when (e.Errno == Errno.ESRCH)
        {
            return null; // it has ended since it was listed
        }
    }

    private static void TrySet(int thread, SchedulingAttributes attributes)
    {
        try
        {
            Scheduling.SetAttributes(thread, attributes);
        }
        catch (SyscallException e) when (e.Errno == Errno.ESRCH)
        {
            // The thread has ended since it was listed.
        }
    }
}
