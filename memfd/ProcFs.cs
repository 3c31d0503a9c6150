using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>What /proc says about a process (proc(5)). Reads only.</summary>
/// <remarks>
/// Every method throws <see cref="SyscallException"/> with ENOENT or ESRCH when there is no such process, and EACCES or EPERM
/// where reading it takes the right to ptrace. Numbers are reused: hold a <see cref="PidFd"/> and look at its
/// <see cref="PidFd.HasExited"/> after reading, or compare <see cref="StartTimeTicks"/>.
/// </remarks>
public static class ProcFs
{
    private static readonly string[] NamespaceKinds = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

    /// <summary>The open descriptors, by number. One that is closed while this reads is left out.</summary>
    public static IReadOnlyList<DescriptorEntry> Descriptors(int pid)
    {
        var entries = new List<DescriptorEntry>();
        foreach (var number in ProcFile.Numbers($"/proc/{pid}/fd"))
        {
            try
            {
                entries.Add(new DescriptorEntry(number, DescriptorInfo.Read($"{pid}", number, out var details), details));
            }
            catch (SyscallException e) when (e.Errno == Errno.ENOENT)
            {
                // Closed since the directory was read.
            }
        }

        return entries;
    }

    /// <summary>The mappings, by address.</summary>
    public static IReadOnlyList<MapEntry> Maps(int pid) => ProcParser.Maps(ProcFile.ReadText($"/proc/{pid}/maps"));

    /// <summary>The threads' numbers, sorted.</summary>
    public static IReadOnlyList<int> Threads(int pid) => ProcFile.Numbers($"/proc/{pid}/task");

    /// <summary>A thread's name: QEMU names vCPU threads <c>CPU 0/KVM</c> when started with <c>-name debug-threads=on</c>.</summary>
    public static string ThreadName(int pid, int tid) => ProcFile.ReadText($"/proc/{pid}/task/{tid}/comm").TrimEnd('\n');

    /// <summary>Identity, capabilities, signals and memory.</summary>
    public static ProcessStatus Status(int pid) => ProcParser.Status(ProcFile.ReadText($"/proc/{pid}/status"));

    /// <summary>argv. Empty for a zombie or a kernel thread. Bytes that are not UTF-8 come out as U+FFFD.</summary>
    public static string[] CommandLine(int pid) => ProcParser.NulTerminated(ProcFile.ReadBytes($"/proc/{pid}/cmdline"));

    /// <summary>The environment that the process was started with. Bytes that are not UTF-8 come out as U+FFFD.</summary>
    public static IReadOnlyDictionary<string, string> Environment(int pid) =>
        ProcParser.Environment(ProcFile.ReadBytes($"/proc/{pid}/environ"));

    /// <summary>The program's file, with <c> (deleted)</c> when it was unlinked or replaced; null for a zombie or a kernel thread.</summary>
    public static string? ExecutablePath(int pid)
    {
        // Asks for the process first, because a missing process and a process without a program are both ENOENT.
        _ = LibC.Stat($"/proc/{pid}");
        try
        {
            return ProcFile.ReadLink($"/proc/{pid}/exe");
        }
        catch (SyscallException e) when (e.Errno == Errno.ENOENT)
        {
            return null;
        }
    }

    /// <summary>The working directory.</summary>
    public static string Cwd(int pid) => ProcFile.ReadLink($"/proc/{pid}/cwd");

    /// <summary>The root directory.</summary>
    public static string Root(int pid) => ProcFile.ReadLink($"/proc/{pid}/root");

    /// <summary>When the process started, in clock ticks (1/100 s) since boot: with the number, its identity.</summary>
    public static long StartTimeTicks(int pid) => ProcParser.StartTimeTicks(ProcFile.ReadText($"/proc/{pid}/stat"));

    /// <summary>The resource limits.</summary>
    public static IReadOnlyDictionary<Resource, ResourceLimit> Limits(int pid) =>
        ProcParser.Limits(ProcFile.ReadText($"/proc/{pid}/limits"));

    /// <summary>How much the OOM killer likes the process: -1000 (never) to 1000.</summary>
    public static int OomScoreAdjustment(int pid) => ProcParser.Integer(ProcFile.ReadText($"/proc/{pid}/oom_score_adj"));

    /// <summary>The cgroups: one entry on cgroup v2.</summary>
    public static IReadOnlyList<CgroupEntry> Cgroups(int pid) => ProcParser.Cgroups(ProcFile.ReadText($"/proc/{pid}/cgroup"));

    /// <summary>Namespace kind (<c>net</c>, <c>mnt</c>, <c>pid</c>, …) to inode: equal inodes, same namespace. Kinds that the kernel has not are left out.</summary>
    public static IReadOnlyDictionary<string, ulong> Namespaces(int pid)
    {
        _ = LibC.Stat($"/proc/{pid}/ns");
        var namespaces = new Dictionary<string, ulong>(StringComparer.Ordinal);
        foreach (var kind in NamespaceKinds)
        {
            try
            {
                namespaces[kind] = LibC.Stat($"/proc/{pid}/ns/{kind}").Inode;
            }
            catch (SyscallException e) when (e.Errno == Errno.ENOENT)
            {
                // A kernel without it, or a zombie.
            }
        }

        return namespaces;
    }

    /// <summary>The security module's label (attr/current), null where no module has one.</summary>
    public static string? SecurityLabel(int pid)
    {
        _ = LibC.Stat($"/proc/{pid}");
        try
        {
            var label = ProcFile.ReadText($"/proc/{pid}/attr/current").TrimEnd('\n', '\0');
            return label.Length == 0 ? null : label;
        }
        catch (SyscallException e) when (e.Errno is Errno.EINVAL or Errno.ENOENT or Errno.EOPNOTSUPP)
        {
            return null;
        }
    }
}
