using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: what the guest has found in its machine against what the new VMM built, beyond the topology.</summary>
internal static class MachineRules
{
    public static IEnumerable<Finding> Compare(VmInspection now, VmInspection built) =>
        CpuRules.Compare(now, built).Concat(VirtqueueRules.Compare(now, built));
}
