using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static partial class LibC
{
    // glibc wraps these since 2.41 only. arm64 has the numbers of asm-generic.
    internal static nint SYS_sched_setattr => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 274 : 314;

    internal static nint SYS_sched_getattr => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 275 : 315;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_getaffinity(int tid, nuint bytes, Span<byte> mask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_setaffinity(int tid, nuint bytes, ReadOnlySpan<byte> mask);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint sched_setattr(nint number, int tid, in sched_attr attributes, uint flags);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint sched_getattr(nint number, int tid, out sched_attr attributes, uint size, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static unsafe partial int prlimit(int pid, int resource, rlimit_t* next, rlimit_t* previous);

    /// <summary>struct sched_attr (linux/sched/types.h), version 1.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct sched_attr
    {
        internal uint size;
        internal uint policy;
        internal ulong flags;
        internal int nice;
        internal uint priority;
        internal ulong runtime;
        internal ulong deadline;
        internal ulong period;
        internal uint util_min;
        internal uint util_max;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct rlimit_t
    {
        internal ulong soft;
        internal ulong hard;
    }
}
