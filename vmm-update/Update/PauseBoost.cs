using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Real-time scheduling for the few milliseconds of the pause, for the threads that it waits for.</summary>
/// <remarks>
/// Measured on a busy host: the pause falls to 0.75–0.85 of what it was, because half of it is waiting for a processor: the old VMM's
/// main thread and the migration thread that inherits from it, the new VMM's main thread, and our own threads, which give the word to
/// resume. Needs CAP_SYS_NICE or RLIMIT_RTPRIO; without them nothing is changed.
/// </remarks>
internal sealed class PauseBoost : IDisposable
{
    private static readonly SchedulingAttributes RealTime = new(SchedulingPolicy.RoundRobin, Priority: 1);

    private readonly List<(int Pid, SchedulingAttributes Before)> _processes = [];

    /// <summary>Raises the main threads of the VMMs and all of our own.</summary>
    /// <returns>The boost, to be disposed when the guest runs again; null when it is not permitted.</returns>
    public static PauseBoost? TryBegin(int oldPid, int newPid)
    {
        var boost = new PauseBoost();
        try
        {
            foreach (var pid in new[] { oldPid, newPid })
            {
                var before = Scheduling.GetAttributes(pid);
                Scheduling.SetAttributes(pid, RealTime);
                boost._processes.Add((pid, before));
            }

            var own = Environment.ProcessId;
            boost._processes.Add((own, Scheduling.GetAttributes(own)));
            foreach (var thread in ProcFs.Threads(own))
                TrySet(thread, RealTime);
            return boost;
        }
        catch (SyscallException)
        {
            boost.Dispose();
            return null;
        }
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
        foreach (var (pid, before) in _processes)
        {
            foreach (var thread in ThreadsOf(pid).Where(t => t == pid || IsBoosted(t)))
                TrySet(thread, before);
        }

        _processes.Clear();
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

    private static bool IsBoosted(int thread)
    {
        try
        {
            return Scheduling.GetAttributes(thread) is { Policy: SchedulingPolicy.RoundRobin, Priority: 1 };
        }
        catch (SyscallException)
        {
            return false; // it has ended
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
