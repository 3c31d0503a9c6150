using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What an operator gave a vCPU's thread from outside. An exec ends all threads but one; all else of a process stays.</summary>
internal sealed record ThreadAttributes(IReadOnlyList<int> Affinity, SchedulingAttributes Scheduling)
{
    /// <summary>By the vCPU's index.</summary>
    public static async Task<IReadOnlyDictionary<int, ThreadAttributes>> OfVcpusAsync(Vmm vmm, CancellationToken cancellationToken) =>
        (await ProcessMatcher.VcpuThreadsAsync(vmm, cancellationToken)).ToDictionary(c => c.Key, c => Of(c.Value));

    /// <summary>Gives the vCPUs of the next program what those of the last one had.</summary>
    public static async Task ApplyAsync(IReadOnlyDictionary<int, ThreadAttributes> wanted, Vmm fresh, List<Finding> findings, CancellationToken cancellationToken)
    {
        foreach (var (index, thread) in await ProcessMatcher.VcpuThreadsAsync(fresh, cancellationToken))
        {
            if (!wanted.TryGetValue(index, out var before))
                continue;
            try
            {
                before.Apply(thread);
            }
            catch (IOException e)
            {
                findings.Add(Finding.Warn("process", $"vcpu-{index}", $"could not be given to the new program: {e.Message}", "run the supervisor with the privilege that this needs"));
            }
        }
    }

    private static ThreadAttributes Of(int thread) => new(Memfd.Scheduling.GetAffinity(thread), Memfd.Scheduling.GetAttributes(thread));

    private void Apply(int thread)
    {
        var now = Of(thread);
        if (!now.Affinity.SequenceEqual(Affinity))
            Memfd.Scheduling.SetAffinity(thread, Affinity);
        if (now.Scheduling != Scheduling)
            Memfd.Scheduling.SetAttributes(thread, Scheduling);
    }
}
