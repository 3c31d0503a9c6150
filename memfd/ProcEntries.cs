namespace CprSharp.Memfd;

/// <summary>One descriptor of a process.</summary>
/// <param name="Number">Its number over there.</param>
/// <param name="Info">What it refers to.</param>
/// <param name="Details">Every line of fdinfo by its key, for example <c>pos</c>, <c>mnt_id</c>, <c>eventfd-count</c>, <c>iff</c> (a tap's interface). Repeated keys are joined by line feeds.</param>
public sealed record DescriptorEntry(int Number, DescriptorInfo Info, IReadOnlyDictionary<string, string> Details);

/// <summary>One mapping of a process (a line of /proc/PID/maps).</summary>
/// <param name="Start">First address.</param>
/// <param name="End">Address after the last.</param>
/// <param name="Protection">What is allowed.</param>
/// <param name="Shared">Shared, or else private (copy on write).</param>
/// <param name="Offset">Bytes into the file.</param>
/// <param name="Device">The file's device; 0:0 for anonymous memory.</param>
/// <param name="Inode">The file's inode; 0 for anonymous memory.</param>
/// <param name="Path">The file, or a name like <c>[heap]</c>; null for anonymous memory. <c> (deleted)</c> is kept.</param>
public sealed record MapEntry(
    ulong Start, ulong End, MappingProtection Protection, bool Shared, ulong Offset, DeviceNumber Device, ulong Inode, string? Path)
{
    /// <summary>Bytes.</summary>
    public ulong Length => End - Start;
}

/// <summary>Real, effective, saved and file system id.</summary>
/// <param name="Real">Real id.</param>
/// <param name="Effective">Effective id.</param>
/// <param name="Saved">Saved id.</param>
/// <param name="FileSystem">File system id.</param>
public readonly record struct ProcessIds(uint Real, uint Effective, uint Saved, uint FileSystem);

/// <summary>Capability sets; bit N is capability N of linux/capability.h.</summary>
/// <param name="Inheritable">CapInh.</param>
/// <param name="Permitted">CapPrm.</param>
/// <param name="Effective">CapEff.</param>
/// <param name="Bounding">CapBnd.</param>
/// <param name="Ambient">CapAmb.</param>
public readonly record struct CapabilitySets(ulong Inheritable, ulong Permitted, ulong Effective, ulong Bounding, ulong Ambient);

/// <summary>Signals by bit: bit N-1 is signal N.</summary>
/// <param name="Blocked">SigBlk, of the main thread.</param>
/// <param name="Ignored">SigIgn.</param>
/// <param name="Caught">SigCgt.</param>
public readonly record struct SignalSets(ulong Blocked, ulong Ignored, ulong Caught);

/// <summary>/proc/PID/status (proc_pid_status(5)).</summary>
/// <param name="Name">Command name, up to 15 bytes, escaped as the kernel escapes it.</param>
/// <param name="State">R, S, D, T, t, Z, X or I.</param>
/// <param name="ParentPid">0 when the parent is outside our PID namespace.</param>
/// <param name="TracerPid">0 when not traced.</param>
/// <param name="UserIds">Users, in our user namespace.</param>
/// <param name="GroupIds">Groups, in our user namespace.</param>
/// <param name="Groups">Supplementary groups.</param>
/// <param name="ThreadCount">Threads.</param>
/// <param name="Capabilities">Capability sets.</param>
/// <param name="Signals">Signal sets.</param>
/// <param name="NoNewPrivileges">prctl(PR_SET_NO_NEW_PRIVS).</param>
/// <param name="Seccomp">0 off, 1 strict, 2 filter; null when the kernel does not say.</param>
/// <param name="LockedBytes">Memory locked (VmLck), bytes; null for a zombie.</param>
/// <param name="PinnedBytes">Memory pinned and accounted to the process (VmPin), bytes; null for a zombie.</param>
/// <param name="ResidentBytes">Memory in RAM (VmRSS), bytes; null for a zombie.</param>
public sealed record ProcessStatus(
    string Name,
    char State,
    int ParentPid,
    int TracerPid,
    ProcessIds UserIds,
    ProcessIds GroupIds,
    IReadOnlyList<uint> Groups,
    int ThreadCount,
    CapabilitySets Capabilities,
    SignalSets Signals,
    bool NoNewPrivileges,
    int? Seccomp,
    long? LockedBytes,
    long? PinnedBytes,
    long? ResidentBytes);

/// <summary>One line of /proc/PID/cgroup.</summary>
/// <param name="Hierarchy">0 for cgroup v2.</param>
/// <param name="Controllers">Controllers of a v1 hierarchy, separated by commas; empty for v2.</param>
/// <param name="Path">The cgroup below the hierarchy's mount, as seen from our cgroup namespace.</param>
public sealed record CgroupEntry(int Hierarchy, string Controllers, string Path);
