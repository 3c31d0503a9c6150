using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Gives a new VMM what an operator gave the running one from outside: cgroup, limits, OOM score, scheduling and CPU affinity.</summary>
internal static class ProcessMatcher
{
    public static async Task<IReadOnlyList<Finding>> MatchAsync(Vmm old, Vmm fresh, Loans loans, CancellationToken cancellationToken)
    {
        if (Mislabelled(ProcFs.SecurityLabel(old.Pid), ProcFs.SecurityLabel(fresh.Pid), fresh.Binary) is { } refusal)
            throw refusal;
        var findings = new List<Finding>();
        Try("cgroup", () => MatchCgroups(old.Pid, fresh.Pid, ThreadGroups.OfProcesses, loans));
        Try("oom-score", () => MatchOomScore(old.Pid, fresh.Pid));
        Try("limits", () => MatchLimits(old.Pid, fresh.Pid));
        Try("scheduling", () => MatchThread(old.Pid, fresh.Pid));

        var before = await NamedThreadsAsync(old, cancellationToken);
        foreach (var (name, thread) in await NamedThreadsAsync(fresh, cancellationToken))
        {
            if (!before.TryGetValue(name, out var counterpart))
                continue;

            // Its cgroup first: that says on which CPUs it may run at all.
            Try(name, () => MatchCgroups(counterpart, thread, ThreadGroups.OfThreads, loans));
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
                findings.Add(Finding.Warn("process", what, $"could not be given to the new VMM: {e.Message}", "run the update as root (`cprsharp update`), or the supervisor with the privilege that this needs"));
            }
        }
    }

    /// <summary>A security module that gives another label to another file would take the guest out of what it is confined to.</summary>
    internal static UpdateException? Mislabelled(string? old, string? fresh, string binary) => old == fresh
        ? null
        : new UpdateException(
            "security-label",
            $"{binary}: it runs as '{fresh ?? "(no label)"}', and the QEMU that has the guest as '{old ?? "(no label)"}'",
            "have the security module's policy keep the label when the supervisor executes that file (AppArmor: ix)")
        {
            IsRefusal = true,
        };

    /// <summary>Joins the cgroups that differ: by a lent file, or one that we may open ourselves.</summary>
    private static void MatchCgroups(int old, int fresh, Func<CgroupEntry, string> file, Loans loans)
    {
        var now = ProcFs.Cgroups(fresh).ToDictionary(c => c.Hierarchy, c => c.Path);
        foreach (var before in ProcFs.Cgroups(old).Where(c => now.GetValueOrDefault(c.Hierarchy) != c.Path))
        {
            var path = file(before);
            if (loans.Group(path) is { } lent)
                RandomAccess.Write(lent, System.Text.Encoding.ASCII.GetBytes(Text(fresh)), 0);
            else
                File.WriteAllText(path, Text(fresh));
        }
    }

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
