using System.Globalization;

namespace CprSharp.Memfd;

/// <summary>What can be limited per process (asm-generic/resource.h).</summary>
public enum Resource
{
    /// <summary>RLIMIT_CPU, seconds.</summary>
    CpuTime = 0,

    /// <summary>RLIMIT_FSIZE, bytes.</summary>
    FileSize = 1,

    /// <summary>RLIMIT_DATA, bytes.</summary>
    DataSize = 2,

    /// <summary>RLIMIT_STACK, bytes.</summary>
    StackSize = 3,

    /// <summary>RLIMIT_CORE, bytes.</summary>
    CoreFileSize = 4,

    /// <summary>RLIMIT_RSS, bytes; without effect today.</summary>
    ResidentSet = 5,

    /// <summary>RLIMIT_NPROC, threads of the user.</summary>
    Processes = 6,

    /// <summary>RLIMIT_NOFILE, one more than the highest descriptor number.</summary>
    OpenFiles = 7,

    /// <summary>RLIMIT_MEMLOCK, bytes.</summary>
    LockedMemory = 8,

    /// <summary>RLIMIT_AS, bytes.</summary>
    AddressSpace = 9,

    /// <summary>RLIMIT_LOCKS, locks.</summary>
    FileLocks = 10,

    /// <summary>RLIMIT_SIGPENDING, signals.</summary>
    PendingSignals = 11,

    /// <summary>RLIMIT_MSGQUEUE, bytes.</summary>
    MessageQueueSize = 12,

    /// <summary>RLIMIT_NICE: 20 minus the lowest nice value.</summary>
    NicePriority = 13,

    /// <summary>RLIMIT_RTPRIO, priority.</summary>
    RealtimePriority = 14,

    /// <summary>RLIMIT_RTTIME, microseconds.</summary>
    RealtimeTimeout = 15,
}

/// <summary>A soft and a hard limit; the unit is the resource's.</summary>
/// <param name="Soft">What is enforced.</param>
/// <param name="Hard">What the process itself may raise the soft limit to.</param>
public readonly record struct ResourceLimit(ulong Soft, ulong Hard)
{
    /// <summary>RLIM_INFINITY.</summary>
    public const ulong Unlimited = ulong.MaxValue;

    /// <summary>For example <c>1024/unlimited</c>.</summary>
    public override string ToString() => $"{Text(Soft)}/{Text(Hard)}";

    private static string Text(ulong value) => value == Unlimited ? "unlimited" : value.ToString(CultureInfo.InvariantCulture);
}
