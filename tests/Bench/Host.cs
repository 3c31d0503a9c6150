using System.Globalization;
using System.Text.Json.Nodes;

namespace CprSharp.Bench;

/// <summary>Where the figures come from: they mean little without.</summary>
internal static class Host
{
    public static void Describe(Components components, Results results)
    {
        var kernel = File.ReadAllText("/proc/sys/kernel/osrelease").Trim();
        var load = File.ReadAllText("/proc/loadavg").Split(' ')[0];
        results.Heading("What is measured");
        results.Note($"cprsharp   {components.Program} ({components.ProgramIs})");
        results.Note($"QEMU       {components.Qemu}, TCG");
        results.Note(string.Create(CultureInfo.InvariantCulture, $"host       {Environment.ProcessorCount} CPUs, Linux {kernel}, load average {load} before"));
        results.Keep("host", new JsonObject
        {
            ["cpus"] = Environment.ProcessorCount,
            ["kernel"] = kernel,
            ["loadAverage"] = load,
            ["cprsharp"] = components.ProgramIs,
            ["started"] = DateTimeOffset.UtcNow,
        });
    }
}
