using System.Globalization;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Tests.Replacement;

/// <summary>What the virtual host's oracles say (docs/virtual-host.md).</summary>
internal static class Oracles
{
    /// <summary>How many faults of the device's DMA the kernel has logged.</summary>
    internal static Task<int> DmaFaultsAsync(CancellationToken ct) =>
        AskAsync($"dmar-faults {Environment.GetEnvironmentVariable("CPRSHARP_EDU")!.Split(' ')[0]}", ct);

    /// <summary>How many pages are pinned on the whole machine.</summary>
    internal static Task<int> PinnedPagesAsync(CancellationToken ct) => AskAsync("pins", ct);

    private static async Task<int> AskAsync(string oracle, CancellationToken ct)
    {
        var (output, _) = await Children.RunAsync(new ChildProcessStart { Path = "/bin/sh", Arguments = ["-c", $"{oracle} 2>/dev/null"] }, ct);
        return int.Parse(output, CultureInfo.InvariantCulture);
    }
}
