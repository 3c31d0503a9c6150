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
    public async Task GrowWithMemoryAsync()
    {
        results.Heading($"Pause over RAM (no devices, a page touched in every 2 MiB), medians of {options.RoundsOfAPoint} paired rounds");
        PointHeader();
        var points = new List<Comparison[]>();
        foreach (var gigabytes in new[] { 0.5, 2, 8, 16 })
        {
            var shape = VmShape.Small((int)(gigabytes * 1024));
            points.Add(await PointAsync("memory", $"{gigabytes.ToString(CultureInfo.InvariantCulture)} GiB", shape, touch: true));
        }

        Growth(points);
    }

    public async Task GrowWithDevicesAsync()
    {
        results.Heading($"Pause over the number of virtio-rng devices (512 MiB), medians of {options.RoundsOfAPoint} paired rounds");
        PointHeader();
        var points = new List<Comparison[]>();
        foreach (var count in new[] { 0, 4, 8, 16 })
            points.Add(await PointAsync("devices", count.ToString(CultureInfo.InvariantCulture), VmShape.WithDevices(count), touch: false));
        Growth(points);
    }

    private void PointHeader() => results.Row("", "ratio", "CprSharp", "bare");

    private void Growth(List<Comparison[]> points)
    {
        for (var i = 0; i < Engines.Length; i++)
        {
            var (first, last) = (points[0][i], points[^1][i]);
            results.Row($"last / first, {Engines[i]}", "", last.CprSharpPause / first.CprSharpPause, last.BarePause / first.BarePause);
        }
    }

    private async Task<Comparison[]> PointAsync(string measure, string point, VmShape shape, bool touch)
    {
        await using var pair = await StartPairAsync(_ => shape);
        if (touch)
        {
            GuestMemory.TouchSparsely(pair.CprSharp.QemuPid, shape.MemoryMiB);
            GuestMemory.TouchSparsely(pair.Bare.QemuPid, shape.MemoryMiB);
        }

        var comparisons = new List<Comparison>();
        foreach (var engine in Engines)
        {
            var comparison = await Comparison.RunAsync(pair.CprSharp, pair.Bare, engine, options.RoundsOfAPoint);
            results.Row($"{point}, {engine}", comparison.PauseRatio, comparison.CprSharpPause, comparison.BarePause);
            results.Keep($"{measure}/{point}/{engine}", comparison.ToJson());
            comparisons.Add(comparison);
        }

        return [.. comparisons];
    }

    private async Task CompareAsync(Func<string, VmShape> shape)
    {
        await using var pair = await StartPairAsync(shape);
        foreach (var engine in Engines)
        {
            var c = await Comparison.RunAsync(pair.CprSharp, pair.Bare, engine, options.Rounds);
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
