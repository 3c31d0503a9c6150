namespace CprSharp.Memfd;

/// <summary>Scheduling policies (linux/sched.h).</summary>
public enum SchedulingPolicy
{
    /// <summary>SCHED_OTHER (SCHED_NORMAL): time sharing by nice value.</summary>
    Other = 0,

    /// <summary>SCHED_FIFO: realtime, until it gives way.</summary>
    Fifo = 1,

    /// <summary>SCHED_RR: realtime, by turns.</summary>
    RoundRobin = 2,

    /// <summary>SCHED_BATCH.</summary>
    Batch = 3,

    /// <summary>SCHED_IDLE.</summary>
    Idle = 5,

    /// <summary>SCHED_DEADLINE.</summary>
    Deadline = 6,

    /// <summary>SCHED_EXT: by a BPF scheduler.</summary>
    Ext = 7,
}

/// <summary>How one thread is scheduled (sched_setattr(2)).</summary>
/// <param name="Policy">The policy.</param>
/// <param name="Nice">-20 to 19, for Other and Batch.</param>
/// <param name="Priority">1 to 99 for Fifo and RoundRobin, else 0.</param>
/// <param name="Flags">SCHED_FLAG_*: 1 resets on fork.</param>
/// <param name="RuntimeNanoseconds">Deadline: budget of a period. For Other and Batch the kernel tells the time slice here.</param>
/// <param name="DeadlineNanoseconds">Deadline: when the budget has to have been given.</param>
/// <param name="PeriodNanoseconds">Deadline: the period.</param>
public sealed record SchedulingAttributes(
    SchedulingPolicy Policy,
    int Nice = 0,
    int Priority = 0,
    ulong Flags = 0,
    ulong RuntimeNanoseconds = 0,
    ulong DeadlineNanoseconds = 0,
    ulong PeriodNanoseconds = 0);
