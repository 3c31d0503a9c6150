using System.Text.Json.Nodes;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>What the program costs when it is asked, and while it does nothing but supervise.</summary>
internal sealed class FootprintMeasure(Components components, BenchOptions options, string scratch, Results results)
{
    public async Task RunAsync()
    {
        results.Heading($"Start-up and memory, medians of {options.Rounds} runs");
        results.Row("", "ms", "MiB");
        var state = Path.Combine(scratch, "f");
        Directory.CreateDirectory(state);
        await CommandAsync("--help");
        await CommandAsync("list", "--state-dir", state);
        await using var vm = await CprSharpVm.StartAsync(components, state, VmShape.Small());
        await CommandAsync("status", vm.Name, "--state-dir", state);
        Supervisor("after its start", "fresh", vm.SupervisorPid);
        for (var i = 0; i < options.Rounds; i++)
            await vm.UpdateAsync("transfer");
        Supervisor($"after {options.Rounds} updates", "updated", vm.SupervisorPid);
    }

    private async Task CommandAsync(params string[] arguments)
    {
        List<double> took = [], peak = [];
        await ProgramRun.RunAsync(components.Program, arguments);
        for (var i = 0; i < options.Rounds; i++)
        {
            took.Add((await ProgramRun.RunAsync(components.Program, arguments)).Took);
            peak.Add(await ProgramRun.PeakMemoryAsync(components.Program, arguments));
        }

        results.Row($"cprsharp {arguments[0]}: exec to exit, peak RSS", Statistics.Median(took), Statistics.Median(peak));
        results.Keep($"footprint/{arguments[0].TrimStart('-')}", new JsonObject
        {
            ["ms"] = Math.Round(Statistics.Median(took), 2),
            ["peakRssMiB"] = Math.Round(Statistics.Median(peak), 2),
        });
    }

    private void Supervisor(string when, string key, int pid)
    {
        var (rss, pss, threads) = ProcessMemory.Of(pid);
        results.Row($"supervisor {when}: RSS", "", rss);
        results.Row($"supervisor {when}: PSS", "", pss);
        results.Keep($"footprint/supervisor/{key}", new JsonObject
        {
            ["rssMiB"] = Math.Round(rss, 2),
            ["pssMiB"] = Math.Round(pss, 2),
            ["threads"] = threads,
        });
    }
}
