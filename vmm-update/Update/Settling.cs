using CprSharp.Qmp;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Update;

/// <summary>An engine's settling on the way back to the old VMM: a guest whose devices do not reach each other is better than none.</summary>
internal static class Settling
{
    public static async Task BackAsync(IEngine engine, Vmm survivor, ICollection<Finding> findings, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var finding in await engine.SettleAsync(survivor, cancellationToken))
                findings.Add(finding);
        }
        catch (Exception e) when (e is IOException or QmpException)
        {
            findings.Add(Finding.Warn("settle", survivor.Binary, $"the guest goes on on the old VMM, but: {e.Message}", "see the supervisor's log"));
        }
    }
}
