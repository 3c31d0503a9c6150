using System.Collections.Immutable;
using System.Text.Json;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>Reads what the vCPUs are.</summary>
internal static class CpuReader
{
    /// <summary>HTT and CMP_LEGACY say that there is more than one vCPU. Up to QEMU 9 they are in the feature words, later they are added
    /// when the guest asks; it sees the same.</summary>
    private static readonly ImmutableHashSet<string> FollowsTopology = ["CPUID[1].EDX.28", "CPUID[80000001].ECX.1"];

    public static async Task<IReadOnlyList<string>> ReadTypesAsync(Vmm vmm, IReadOnlyList<JsonElement> cpus, CancellationToken cancellationToken)
    {
        var types = new List<string>();
        foreach (var cpu in cpus)
        {
            var type = await QomReader.TryReadAsync(vmm, cpu.GetProperty("qom-path").GetString()!, "type", cancellationToken);
            types.Add(type?.GetString() ?? "unknown");
        }

        return types;
    }

    /// <summary>The x86 feature words of the first vCPU, one name per bit (<c>target/i386/cpu.c</c>, property <c>feature-words</c>).</summary>
    public static async Task<ImmutableHashSet<string>> ReadFeaturesAsync(Vmm vmm, IReadOnlyList<JsonElement> cpus, CancellationToken cancellationToken)
    {
        if (cpus.Count == 0)
            return [];

        var words = await QomReader.TryReadAsync(vmm, cpus[0].GetProperty("qom-path").GetString()!, "feature-words", cancellationToken);
        if (words is not { ValueKind: JsonValueKind.Array } array)
            return [];

        var features = ImmutableHashSet.CreateBuilder<string>(StringComparer.Ordinal);
        foreach (var word in array.EnumerateArray())
        {
            var leaf = word.GetProperty("cpuid-input-eax").GetUInt32();
            var subleaf = word.TryGetProperty("cpuid-input-ecx", out var ecx) ? $".{ecx.GetUInt32()}" : "";
            var register = word.GetProperty("cpuid-register").GetString();
            var bits = word.GetProperty("features").GetUInt64();
            for (var bit = 0; bit < 64; bit++)
            {
                var name = $"CPUID[{leaf:X}{subleaf}].{register}.{bit}";
                if ((bits & (1UL << bit)) != 0 && !FollowsTopology.Contains(name))
                    features.Add(name);
            }
        }

        return features.ToImmutable();
    }
}
