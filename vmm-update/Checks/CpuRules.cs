using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: is the CPU that the guest found at boot still there.</summary>
internal static class CpuRules
{
    public static IEnumerable<Finding> Compare(VmInspection now, VmInspection built)
    {
        if (now.CpuFeatures.IsEmpty || built.CpuFeatures.IsEmpty)
            yield break;

        var lost = now.CpuFeatures.Except(built.CpuFeatures).Order(StringComparer.Ordinal).ToList();
        var gained = built.CpuFeatures.Except(now.CpuFeatures).Order(StringComparer.Ordinal).ToList();
        if (lost.Count > 0)
        {
            yield return Finding.Fail(
                "cpu-features", "vCPU 0", $"the new VMM's CPU lacks {string.Join(", ", lost)}",
                "start the VM with a named CPU model that both binaries offer in full, e.g. -cpu Skylake-Server-v4, or with -cpu max,-feature");
        }
        else if (gained.Count > 0)
        {
            yield return Finding.Warn(
                "cpu-features", "vCPU 0", $"the new VMM's CPU also offers {string.Join(", ", gained)}; a guest that looks again will see them, and the way back may be refused",
                "a named CPU model is the same in every version");
        }
        else
        {
            yield return Finding.Pass("cpu-features", "vCPU 0", $"{now.CpuFeatures.Count} features, the same in both");
        }
    }
}
