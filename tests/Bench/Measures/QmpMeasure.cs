using System.Diagnostics;
using System.Text.Json.Nodes;
using CprSharp.Bench.Subjects;
using CprSharp.Qmp;

namespace CprSharp.Bench.Measures;

/// <summary>The QMP client, and the socket that the supervisor serves, against the least that speaks QMP.</summary>
/// <remarks>Blocks of commands alternate between the subjects, so that a busy moment of the host falls upon all of them.</remarks>
internal sealed class QmpMeasure(Components components, BenchOptions options, string scratch, Results results)
{
    private const int CommandsInBlock = 500;
    private const int InFlight = 8;
    private static readonly byte[] Query = "{\"execute\":\"query-status\"}\n"u8.ToArray();

    public async Task RunAsync()
    {
        await using var vm = await CprSharpVm.StartAsync(components, Path.Combine(scratch, "q"), VmShape.Small());
        var second = Path.Combine(scratch, "second");
        var shape = VmShape.Small();
        shape = shape with { Arguments = [.. shape.Arguments, "-qmp", $"unix:{second},server=on,wait=off"] };
        await using var plain = await BareVm.StartAsync(components, Path.Combine(scratch, "p"), shape);
        var raw = plain.Qmp;
        using var served = BareQmp.Connect(vm.QmpSocket);
        await using var client = new QmpClient();
        await using var servedClient = new QmpClient();
        await client.ConnectAsync(second);
        await servedClient.ConnectAsync(vm.QmpSocket);
        Subject[] subjects =
        [
            new("raw socket", "raw", () => Latency(raw), () => Throughput(raw)),
            new("CprSharp.Qmp", "client", () => LatencyAsync(client), () => ThroughputAsync(client)),
            new("raw socket through the supervisor", "served", () => Latency(served), () => Throughput(served)),
            new("CprSharp.Qmp through the supervisor", "servedClient", () => LatencyAsync(servedClient), () => ThroughputAsync(servedClient)),
        ];
        for (var round = 0; round <= options.Rounds; round++)
        {
            foreach (var subject in subjects)
                await subject.MeasureAsync(counts: round > 0);
        }

        results.Heading($"QMP: query-status to a real QEMU; {options.Rounds} alternating blocks of {CommandsInBlock} commands");
        results.Row("", "median", "p99", "ratio of", $"{InFlight} in flight", "ratio to");
        results.Row("", "us", "us", "medians", "1/s", "raw");
        foreach (var subject in subjects)
        {
            var latency = Statistics.Median(subject.Latencies);
            var p99 = Statistics.Quantile(subject.Latencies, 0.99);
            var ratio = Statistics.PairedRatio(subject.BlockMedians, subjects[0].BlockMedians);
            var rate = Statistics.Median(subject.Rates);
            var rateRatio = Statistics.PairedRatio(subject.Rates, subjects[0].Rates);
            results.Row(subject.Name, latency, p99, ratio, rate, rateRatio);
            results.Keep($"qmp/{subject.Key}", new JsonObject
            {
                ["latencyMedianUs"] = Math.Round(latency, 2),
                ["latencyP99Us"] = Math.Round(p99, 2),
                ["latencyRatio"] = Math.Round(ratio, 3),
                ["commandsPerSecond"] = Math.Round(rate),
                ["throughputRatio"] = Math.Round(rateRatio, 3),
            });
        }
    }

    private static Task<double[]> Latency(BareQmp qmp)
    {
        var latencies = new double[CommandsInBlock];
        for (var i = 0; i < CommandsInBlock; i++)
        {
            var begin = Stopwatch.GetTimestamp();
            qmp.Send(Query);
            qmp.ReadLine();
            latencies[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        }

        return Task.FromResult(latencies);
    }

    private static async Task<double[]> LatencyAsync(QmpClient client)
    {
        var latencies = new double[CommandsInBlock];
        for (var i = 0; i < CommandsInBlock; i++)
        {
            var begin = Stopwatch.GetTimestamp();
            await client.ExecuteAsync("query-status");
            latencies[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        }

        return latencies;
    }

    private static Task<double> Throughput(BareQmp qmp)
    {
        var begin = Stopwatch.GetTimestamp();
        for (var i = 0; i < InFlight; i++)
            qmp.Send(Query);
        for (var i = 0; i < CommandsInBlock; i++)
        {
            qmp.ReadLine();
            if (i + InFlight < CommandsInBlock)
                qmp.Send(Query);
        }

        return Task.FromResult(CommandsInBlock / Stopwatch.GetElapsedTime(begin).TotalSeconds);
    }

    private static async Task<double> ThroughputAsync(QmpClient client)
    {
        var left = CommandsInBlock;
        var begin = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, InFlight).Select(async _ =>
        {
            while (Interlocked.Decrement(ref left) >= 0)
                await client.ExecuteAsync("query-status");
        }));
        return CommandsInBlock / Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    private sealed record Subject(string Name, string Key, Func<Task<double[]>> LatencyOfBlock, Func<Task<double>> RateOfBlock)
    {
        public List<double> Latencies { get; } = [];

        public List<double> BlockMedians { get; } = [];

        public List<double> Rates { get; } = [];

        public async Task MeasureAsync(bool counts)
        {
            var latencies = await LatencyOfBlock();
            var rate = await RateOfBlock();
            if (!counts)
                return;
            Latencies.AddRange(latencies);
            BlockMedians.Add(Statistics.Median(latencies));
            Rates.Add(rate);
        }
    }
}
