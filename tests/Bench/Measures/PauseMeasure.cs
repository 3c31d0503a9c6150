using System.Globalization;
using CprSharp.Bench.Subjects;

namespace CprSharp.Bench.Measures;

/// <summary>The pause and the total time against QEMU driven bare, and how the pause grows.</summary>
internal sealed class PauseMeasure(Components components, BenchOptions options, string scratch, Results results)
{
    private static readonly string[] Engines = ["transfer", "shared-ram"];
    private static readonly string[] Columns = ["pause", "CprSharp", "bare", "total", "CprSharp", "bare"];

    private int _vms;

    public async Task CompareAsync()
    {
        results.Heading($"Pause and total time, CprSharp / QEMU bare, 11.1 -> 11.1, medians of {options.Rounds} paired rounds");
        results.Row("", [.. Columns]);
        results.Row("", "ratio", "ms", "ms", "ratio", "ms", "ms");
        await CompareAsync(_ => VmShape.Small());
        await CompareAsync(directory => VmShape.Large(components, Disk(directory)));
    }

    /// <summary>Guest RAM is touched sparsely, a page in every 2 MiB: enough for both ends to have something to map.</summary>
    public Task GrowWithMemoryAsync() => GrowAsync(
        "memory",
        "RAM (no devices, a page touched in every 2 MiB)",
        [.. new[] { 0.5, 2, 8, 16 }.Select(gigabytes => ($"{gigabytes.ToString(CultureInfo.InvariantCulture)} GiB", VmShape.Small((int)(gigabytes * 1024))))],
        touch: true);

    public Task GrowWithDevicesAsync() => GrowAsync(
        "devices",
        "the number of virtio-rng devices (512 MiB)",
        [.. new[] { 0, 4, 8, 16 }.Select(count => (count.ToString(CultureInfo.InvariantCulture), VmShape.WithDevices(count)))],
        touch: false);

    private async Task GrowAsync(string measure, string over, IReadOnlyList<(string Name, VmShape Shape)> points, bool touch)
    {
        results.Heading($"Pause over {over}, medians of {options.RoundsOfAPoint} rounds in turns; growth is over the first");
        results.Row("", "ratio", "CprSharp", "growth", "bare", "growth");
        results.Row("", "", "ms", "", "ms", "");
        var pairs = new List<Pair>();
        try
        {
            foreach (var (_, shape) in points)
            {
                var pair = await StartPairAsync(_ => shape);
                pairs.Add(pair);
                if (!touch)
                    continue;
                GuestMemory.TouchSparsely(pair.CprSharp.QemuPid, shape.MemoryMiB);
                GuestMemory.TouchSparsely(pair.Bare.QemuPid, shape.MemoryMiB);
            }

            foreach (var engine in Engines)
            {
                var comparisons = await Comparison.RunAsync([.. pairs.Select(p => ((IMeasuredVm)p.CprSharp, (IMeasuredVm)p.Bare))], engine, options.RoundsOfAPoint);
                foreach (var ((name, _), c) in points.Zip(comparisons))
                {
                    var (cprSharp, bare) = c.GrowthFrom(comparisons[0]);
                    results.Row($"{name}, {engine}", c.PauseRatio, c.CprSharpPause, cprSharp, c.BarePause, bare);
                    results.Keep($"{measure}/{name}/{engine}", c.ToJson());
                }
            }
        }
        finally
        {
            foreach (var pair in pairs)
                await pair.DisposeAsync();
        }
    }

    private async Task CompareAsync(Func<string, VmShape> shape)
    {
        await using var pair = await StartPairAsync(shape);
        foreach (var engine in Engines)
        {
            var c = (await Comparison.RunAsync([(pair.CprSharp, pair.Bare)], engine, options.Rounds))[0];
            results.Row($"{pair.Shape}, {engine}", c.PauseRatio, c.CprSharpPause, c.BarePause, c.TotalRatio, c.CprSharpTotal, c.BareTotal);
            results.Note("  total: " + string.Join(", ", c.Parts.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Name} {p.Took:0}"))));
            results.Keep($"pause/{pair.Shape}/{engine}", c.ToJson());
        }
    }

    private async Task<Pair> StartPairAsync(Func<string, VmShape> shape)
    {
        var place = Path.Combine(scratch, (++_vms).ToString(CultureInfo.InvariantCulture));
        var (first, second) = (Path.Combine(place, "c"), Path.Combine(place, "b"));
        Directory.CreateDirectory(first);
        Directory.CreateDirectory(second);
        var cprSharp = await CprSharpVm.StartAsync(components, first, shape(first));
        try
        {
            return new Pair(shape(first).Name, cprSharp, await BareVm.StartAsync(components, second, shape(second)));
        }
        catch
        {
            await cprSharp.DisposeAsync();
            throw;
        }
    }

    private static string Disk(string directory)
    {
        var path = Path.Combine(directory, "disk.img");
        using var file = new FileStream(path, FileMode.OpenOrCreate);
        file.SetLength(1L << 30);
        return path;
    }

    private sealed record Pair(string Shape, CprSharpVm CprSharp, BareVm Bare) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await CprSharp.DisposeAsync();
            await Bare.DisposeAsync();
        }
    }
}
