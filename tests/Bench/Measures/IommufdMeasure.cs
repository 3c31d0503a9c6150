using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using CprSharp.Bench.Inside;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>The calls of the iommufd library against the same ones in C, in the virtual host: <see cref="IommufdInside"/> measures there.</summary>
internal sealed class IommufdMeasure(string root, BenchOptions options, Results results)
{
    private const string Scenario = "iommufd-cost";
    private const string Kernel = "7.3";
    private const string Iommu = "legacy";

    public async Task RunAsync()
    {
        var timings = Timing.Read(await MeasureAsync(await CompileAsync()));
        var curves = timings.ToLookup(t => t.Curve);
        Calls([.. curves["calls"]]);
        Curve([.. curves["areas"]], "areas", "40 MB in so many areas", options.Rounds);
        Curve([.. curves["4 KiB"]], "4KiB", "so much in one area, pages of 4 KiB", options.RoundsOfAPoint);
        Curve([.. curves["2 MiB"]], "2MiB", "so much in one area, pages of 2 MiB", options.RoundsOfAPoint);
    }

    private async Task<string> CompileAsync()
    {
        var headers = Environment.GetEnvironmentVariable("CPRSHARP_KERNEL_HEADERS")
            ?? throw new InvalidOperationException("CPRSHARP_KERNEL_HEADERS is not set; run it by `make bench`");
        // The virtual host sees what is in the repository.
        var program = Path.Combine(Directory.CreateDirectory(Path.Combine(root, "artifacts", "bench")).FullName, Scenario);
        await ProgramRun.RunAsync(
            "gcc", ["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-isystem", headers, "-o", program, Path.Combine(root, "tests", "Bench", "Inside", $"{Scenario}.c")]);
        return program;
    }

    /// <summary>Runs the virtual host to its end.</summary>
    /// <returns>The file with the timings.</returns>
    private async Task<string> MeasureAsync(string program)
    {
        var start = new ProcessStartInfo(Path.Combine(root, "integration-vm", "scenario"), ["--kernel", Kernel, "--iommu", Iommu, Scenario])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            Environment =
            {
                ["CPRSHARP_BENCH"] = typeof(IommufdMeasure).Assembly.Location,
                ["CPRSHARP_BENCH_PEER"] = program,
                ["CPRSHARP_BENCH_ROUNDS"] = options.Rounds.ToString(CultureInfo.InvariantCulture),
                ["CPRSHARP_BENCH_POINT_ROUNDS"] = options.RoundsOfAPoint.ToString(CultureInfo.InvariantCulture),
            },
        };
        using var process = Process.Start(start)!;
        while (await process.StandardOutput.ReadLineAsync() is { } line)
            await Console.Error.WriteLineAsync(line);
        await process.WaitForExitAsync();
        return process.ExitCode == 0
            ? Path.Combine(root, "artifacts", "scenarios", $"{Scenario}-{Kernel}-{Iommu}", "share", "timings.json")
            : throw new InvalidOperationException($"the scenario {Scenario} has failed, see above");
    }

    private void Calls(IReadOnlyList<Timing> timings)
    {
        results.Heading(
            $"iommufd: a call of {timings[0].Point}, map a page by file and unmap it by turns, nothing attached; in the virtual host, medians of {options.Rounds} paired rounds");
        results.Row("", "C", "library", "ratio", "+ journal", "ratio");
        results.Row("", "us", "us", "", "us", "");
        var (c, library, journal) = (By(timings, "c"), By(timings, "library"), By(timings, "journal"));
        var (ratio, journalRatio) = (Statistics.PairedRatio(library, c), Statistics.PairedRatio(journal, c));
        results.Row("one call", Median(c, 1e3), Median(library, 1e3), ratio, Median(journal, 1e3), journalRatio);
        results.Keep("iommufd/call", new JsonObject
        {
            ["cNs"] = Rounded(c),
            ["libraryNs"] = Rounded(library),
            ["journalNs"] = Rounded(journal),
            ["ratio"] = Math.Round(ratio, 3),
            ["journalRatio"] = Math.Round(journalRatio, 3),
        });
    }

    private void Curve(IReadOnlyList<Timing> timings, string key, string over, int rounds)
    {
        results.Heading($"iommufd: map by file, and change the process, {over}; edu attached, medians of {rounds} paired rounds");
        results.Row("", "map: C", "library", "ratio", "change: C", "library", "ratio");
        results.Row("", "ms", "ms", "", "us", "us", "");
        foreach (var point in timings.GroupBy(t => t.Point))
        {
            var what = point.ToLookup(t => t.What);
            var (mapC, map) = (By(what["map"], "c"), By(what["map"], "library"));
            var (changeC, change) = (By(what["change"], "c"), By(what["change"], "library"));
            var (mapRatio, changeRatio) = (Statistics.PairedRatio(map, mapC), Statistics.PairedRatio(change, changeC));
            results.Row(point.Key, Median(mapC, 1e6), Median(map, 1e6), mapRatio, Median(changeC, 1e3), Median(change, 1e3), changeRatio);
            results.Keep($"iommufd/{key}/{point.Key}", new JsonObject
            {
                ["mapRatio"] = Math.Round(mapRatio, 3),
                ["changeRatio"] = Math.Round(changeRatio, 3),
                ["mapCNs"] = Rounded(mapC),
                ["mapLibraryNs"] = Rounded(map),
                ["changeCNs"] = Rounded(changeC),
                ["changeLibraryNs"] = Rounded(change),
            });
        }
    }

    private static double[] By(IEnumerable<Timing> timings, string by) => [.. timings.Where(t => t.By == by).Select(t => t.Nanoseconds)];

    private static double Median(double[] nanoseconds, double unit) => Statistics.Median(nanoseconds) / unit;

    private static JsonArray Rounded(double[] values) => [.. values.Select(v => JsonValue.Create(Math.Round(v)))];
}
