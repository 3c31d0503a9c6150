using System.Globalization;
using System.Text.Json.Nodes;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>The pause of a libvirt domain against that of the same command line under <c>cprsharp run</c>, on the same host.</summary>
/// <remarks>libvirt runs supervisor and QEMU as an unprivileged user, in cgroups and under a seccomp filter; <c>cprsharp run</c> is root's.</remarks>
internal sealed class LibvirtMeasure(Components components, BenchOptions options, string scratch, Results results)
{
    private static readonly string[] Engines = ["transfer", "shared-ram"];
    private static readonly string[] Columns = ["pause", "libvirt", "run", "total", "libvirt", "run"];

    public async Task RunAsync()
    {
        results.Heading($"Pause and total time, a libvirt domain / cprsharp run, 11.1 -> 11.1, medians of {options.Rounds} paired rounds");
        if (!Environment.IsPrivilegedProcess || !components.ProgramIs.StartsWith("published", StringComparison.Ordinal))
        {
            results.Note("not measured: it takes root, and the published program ('make publish'), because the host with libvirt has no .NET");
            return;
        }

        results.Row("", [.. Columns]);
        results.Row("", "ratio", "ms", "ms", "ratio", "ms", "ms");
        await using var host = await LibvirtHost.StartAsync(components, Path.Combine(scratch, "l"), $$"""{ "Libvirt": { "Qemu": "{{components.Qemu}}" } }""");
        await CompareAsync(host, "domain", memoryMiB: 512, vcpus: 2);
    }

    private async Task CompareAsync(LibvirtHost host, string name, int memoryMiB, int vcpus)
    {
        await using var domain = await HostedVm.StartDomainAsync(host, components, name, memoryMiB, vcpus);
        domain.Rest();
        await using var run = await HostedVm.RunAsync(host, components, name, $"{name}-run");
        foreach (var engine in Engines)
        {
            var c = (await Comparison.RunAsync([(domain, run)], engine, options.Rounds))[0];
            results.Row($"{vcpus} vCPUs, {memoryMiB} MiB, {engine}", c.PauseRatio, c.CprSharpPause, c.BarePause, c.TotalRatio, c.CprSharpTotal, c.BareTotal);
            results.Note("  total: " + string.Join(", ", c.Parts.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Name} {p.Took:0}"))));
            results.Keep($"libvirt/{engine}", new JsonObject
            {
                ["pauseRatio"] = Math.Round(c.PauseRatio, 3),
                ["libvirtPauseMs"] = new JsonArray([.. c.CprSharp.Select(s => JsonValue.Create(s.Pause))]),
                ["runPauseMs"] = new JsonArray([.. c.Bare.Select(s => JsonValue.Create(s.Pause))]),
            });
        }
    }
}
