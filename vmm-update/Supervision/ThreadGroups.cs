using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The files by which threads are put into cgroups.</summary>
internal static class ThreadGroups
{
    /// <summary>Where cgroup v2 is mounted: alone, or beside v1 hierarchies.</summary>
    private static string UnifiedRoot => Directory.Exists("/sys/fs/cgroup/unified") ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";

    /// <summary>The file that takes a whole process.</summary>
    public static string OfProcesses(CgroupEntry group) => In(group, "cgroup.procs");

    /// <summary>The file that takes a thread; libvirt puts each vCPU and I/O thread into a cgroup of its own.</summary>
    public static string OfThreads(CgroupEntry group) => In(group, group.Hierarchy == 0 ? "cgroup.threads" : "tasks");

    /// <summary>The files of those cgroups that some threads of a process are in, and its main thread is not.</summary>
    public static IEnumerable<string> Apart(int pid)
    {
        var main = ProcFs.Cgroups(pid);
        return ProcFs.Threads(pid).Where(t => t != pid).SelectMany(GroupsOf).Except(main).Select(OfThreads).Distinct(StringComparer.Ordinal);
    }

    /// <summary>None for a thread that has ended since it was listed, as QEMU's workers do: the others' groups count all the same.</summary>
    private static IReadOnlyList<CgroupEntry> GroupsOf(int thread)
    {
        try
        {
            return ProcFs.Cgroups(thread);
        }
        catch (SyscallException e) when (e.Errno is Errno.ENOENT or Errno.ESRCH)
        {
            return [];
        }
    }

    private static string In(CgroupEntry group, string file) =>
        Path.Join(group.Hierarchy == 0 ? UnifiedRoot : Path.Combine("/sys/fs/cgroup", group.Controllers), group.Path, file);
}
