using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Gives a new VMM what an operator gave the running one from outside: cgroup, limits, OOM score, scheduling and CPU affinity.</summary>
internal static class ProcessMatcher
{
    public static async Task<IReadOnlyList<Finding>> MatchAsync(Vmm old, Vmm fresh, CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        Try("cgroup", () => MatchCgroup(old.Pid, fresh.Pid));
        Try("oom-score", () => MatchOomScore(old.Pid, fresh.Pid));
        Try("limits", () => MatchLimits(old.Pid, fresh.Pid));
        Try("scheduling", () => MatchThread(old.Pid, fresh.Pid));

        var before = await NamedThreadsAsync(old, cancellationToken);
        foreach (var (name, thread) in await NamedThreadsAsync(fresh, cancellationToken))
        {
            if (!before.TryGetValue(name, out var counterpart))
                continue;

            // Its cgroup first: that says on which CPUs it may run at all.
            Try(name, () => MatchThreadCgroups(counterpart, thread));
            Try(name, () => MatchThread(counterpart, thread));
        }

        return findings;

        void Try(string what, Action match)
        {
            try
            {
                match();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                findings.Add(Finding.Warn("process", what, $"could not be given to the new VMM: {e.Message}", "run the supervisor with the privilege that this needs"));
            }
        }
    }

    private static void MatchCgroup(int old, int fresh) => MatchCgroup(old, fresh, static _ => "cgroup.procs");

    /// <summary>libvirt puts each vCPU and I/O thread into a cgroup of its own: v1 takes a thread in <c>tasks</c>, v2 in <c>cgroup.threads</c>.</summary>
    private static void MatchThreadCgroups(int old, int fresh) =>
        MatchCgroup(old, fresh, static hierarchy => hierarchy == 0 ? "cgroup.threads" : "tasks");

    private static void MatchCgroup(int old, int fresh, Func<int, string> file)
    {
        var now = ProcFs.Cgroups(fresh).ToDictionary(c => c.Hierarchy, c => c.Path);
        foreach (var before in ProcFs.Cgroups(old))
        {
            if (now.TryGetValue(before.Hierarchy, out var path) && path == before.Path)
                continue;
            var root = before.Hierarchy == 0 ? UnifiedRoot : Path.Combine("/sys/fs/cgroup", before.Controllers);
            File.WriteAllText(Path.Join(root, before.Path, file(before.Hierarchy)), Text(fresh));
        }
    }

    /// <summary>Where cgroup v2 is mounted: alone, or beside v1 hierarchies.</summary>
    private static string UnifiedRoot => Directory.Exists("/sys/fs/cgroup/unified") ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";

    private static void MatchOomScore(int old, int fresh)
    {
        var wanted = ProcFs.OomScoreAdjustment(old);
        if (ProcFs.OomScoreAdjustment(fresh) != wanted)
            File.WriteAllText($"/proc/{fresh}/oom_score_adj", Text(wanted));
    }

    private static string Text(int number) => number.ToString(System.Globalization.CultureInfo.InvariantCulture);

    private static void MatchLimits(int old, int fresh)
    {
        foreach (var resource in Enum.GetValues<Resource>())
        {
            var wanted = Scheduling.GetLimit(old, resource);
            if (Scheduling.GetLimit(fresh, resource) != wanted)
                Scheduling.SetLimit(fresh, resource, wanted);
        }
    }

    private static void MatchThread(int old, int fresh)
    {
        var affinity = Scheduling.GetAffinity(old);
        if (!Scheduling.GetAffinity(fresh).SequenceEqual(affinity))
            Scheduling.SetAffinity(fresh, affinity);
        var attributes = Scheduling.GetAttributes(old);
        if (Scheduling.GetAttributes(fresh) != attributes)
            Scheduling.SetAttributes(fresh, attributes);
    }

    /// <summary>The threads that an operator can address, by what both VMMs call them.</summary>
    private static async Task<Dictionary<string, int>> NamedThreadsAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var threads = (await VcpuThreadsAsync(vmm, cancellationToken)).ToDictionary(c => $"vcpu-{Text(c.Key)}", c => c.Value, StringComparer.Ordinal);
        foreach (var thread in (await vmm.ExecuteAsync("query-iothreads", cancellationToken)).EnumerateArray())
            threads[$"iothread {thread.GetProperty("id").GetString()}"] = thread.GetProperty("thread-id").GetInt32();
        return threads;
    }

    internal static async Task<Dictionary<int, int>> VcpuThreadsAsync(Vmm vmm, CancellationToken cancellationToken) =>
        (await vmm.ExecuteAsync("query-cpus-fast", cancellationToken)).EnumerateArray()
            .ToDictionary(c => c.GetProperty("cpu-index").GetInt32(), c => c.GetProperty("thread-id").GetInt32());
}
