using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using CprSharp.VmmUpdate.Metrics;
using CprSharp.VmmUpdate.Reporting;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Metrics;

public sealed class MetricsTextTests
{
    [Fact]
    public void Any_label_value_comes_out_as_it_went_in() => FsCheck.Check.QuickThrowOnFailure(Prop.ForAll(ArbMap.Default.ArbFor<string?>(), value =>
    {
        var text = MetricsText.Write([new("m", MetricType.Gauge, $"help {value}", [new("", [new("a", value ?? ""), new("b", "\\\"\n,}")], 1)])]);
        var sample = Assert.Single(PrometheusText.Parse(text));
        return sample.Labels["a"] == (value ?? "") && sample.Labels["b"] == "\\\"\n,}";
    }));

    [Fact]
    public void Numbers_are_as_the_format_wants_them()
    {
        Assert.Equal("+Inf", MetricsText.Number(double.PositiveInfinity));
        Assert.Equal("NaN", MetricsText.Number(double.NaN));
        Assert.Equal("0.0025", MetricsText.Number(0.0025));
        Assert.Equal("1", MetricsText.Number(1));
    }

    [Fact]
    public void VMs_and_their_updates_are_counted()
    {
        UpdateReport[] updates = [Update(UpdateOutcome.Updated, 7.5), Update(UpdateOutcome.Updated, 30), Update(UpdateOutcome.RolledBack, 400), Update(UpdateOutcome.Refused, null)];
        var samples = PrometheusText.Parse(MetricsText.Write(VmMetrics.Of(
        [
            new MeasuredVm(Status("web\"1\\", "supervised"), [.. updates], 30 << 20, 90 << 20),
            new MeasuredVm(Status("idle", "gone"), [], null, null),
        ])));

        Assert.Equal(1, Value("cprsharp_vms", ("supervision", "supervised")));
        Assert.Equal(1, Value("cprsharp_vms", ("supervision", "gone")));
        Assert.Equal(0, Value("cprsharp_vms", ("supervision", "unsupervised")));
        Assert.Equal(2, Value("cprsharp_updates_total", ("vm", "web\"1\\"), ("outcome", "updated")));
        Assert.Equal(1, Value("cprsharp_updates_total", ("vm", "web\"1\\"), ("outcome", "rolled_back")));
        Assert.Equal(0, Value("cprsharp_updates_total", ("vm", "idle"), ("outcome", "failed")));
        Assert.Equal(1, Value("cprsharp_update_pause_seconds_bucket", ("vm", "web\"1\\"), ("le", "0.01")));
        Assert.Equal(2, Value("cprsharp_update_pause_seconds_bucket", ("vm", "web\"1\\"), ("le", "0.05")));
        Assert.Equal(3, Value("cprsharp_update_pause_seconds_bucket", ("vm", "web\"1\\"), ("le", "+Inf")));
        Assert.Equal(3, Value("cprsharp_update_pause_seconds_count", ("vm", "web\"1\\")));
        Assert.Equal(0.4375, Value("cprsharp_update_pause_seconds_sum", ("vm", "web\"1\\")));
        Assert.Equal(30 << 20, Value("cprsharp_supervisor_resident_memory_bytes", ("vm", "web\"1\\")));
        Assert.DoesNotContain(samples, s => s.Name == "cprsharp_supervisor_resident_memory_bytes" && s.Labels["vm"] == "idle");

        double Value(string name, params (string Name, string Value)[] labels) =>
            Assert.Single(samples, s => s.Name == name && labels.All(l => s.Labels.GetValueOrDefault(l.Name) == l.Value)).Value;
    }

    [Theory]
    [InlineData("m{a=\"x} 1\n")]
    [InlineData("m 1")]
    [InlineData("1m 1\n")]
    [InlineData("m{a=\"\\q\"} 1\n")]
    [InlineData("m{} one\n")]
    public void The_parser_of_these_tests_is_no_pushover(string text) => Assert.Throws<FormatException>(() => PrometheusText.Parse(text));

    private static UpdateReport Update(UpdateOutcome outcome, double? pause) => new()
    {
        Vm = "vm",
        Outcome = outcome,
        From = new VmmEnd("10.0.13", "/a", 1),
        To = new VmmEnd("11.1.3", "/b", 2),
        PauseMs = pause,
        TotalMs = 500,
        Started = DateTimeOffset.UnixEpoch.AddSeconds(1.5),
    };

    private static StatusReport Status(string vm, string supervision) => new()
    {
        Vm = vm,
        Supervision = supervision,
        RunState = "running",
        Vmm = new VmmEnd("11.1.3", "/b", 2),
        SupervisorPid = 1,
        MachineType = "pc-q35-10.0",
        QmpSocket = "/q",
    };
}

/// <summary>A strict reader of the text format: what it does not know is wrong.</summary>
internal static class PrometheusText
{
    public sealed record Sample(string Name, Dictionary<string, string> Labels, double Value);

    public static List<Sample> Parse(string text)
    {
        var samples = new List<Sample>();
        string? family = null;
        if (!text.EndsWith('\n'))
            throw new FormatException("the last line has no end");
        foreach (var line in text[..^1].Split('\n'))
        {
            if (line.StartsWith("# HELP ", StringComparison.Ordinal))
            {
                family = line.Split(' ')[2];
            }
            else if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
            {
                if (line.Split(' ') is not [_, _, var name, "gauge" or "counter" or "histogram"] || name != family)
                    throw new FormatException(line);
            }
            else
            {
                var sample = Sample1(line);
                if (family is not null && !sample.Name.StartsWith(family, StringComparison.Ordinal))
                    throw new FormatException($"{line} does not belong to {family}");
                if (samples.Exists(s => s.Name == sample.Name && s.Labels.OrderBy(l => l.Key).SequenceEqual(sample.Labels.OrderBy(l => l.Key))))
                    throw new FormatException($"twice: {line}");
                samples.Add(sample);
            }
        }

        return samples;
    }

    private static Sample Sample1(string line)
    {
        var at = 0;
        var name = Name(line, ref at);
        var labels = new Dictionary<string, string>(StringComparer.Ordinal);
        if (at < line.Length && line[at] == '{')
        {
            do
            {
                at++;
                var label = Name(line, ref at);
                labels.Add(label, Quoted(line, ref at));
            }
            while (line[at] == ',');
            Expect(line, ref at, '}');
        }

        Expect(line, ref at, ' ');
        var number = line[at..];
        return new Sample(name, labels, number switch
        {
            "+Inf" => double.PositiveInfinity,
            _ when double.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) => value,
            _ => throw new FormatException(line),
        });
    }

    private static string Name(string line, ref int at)
    {
        var from = at;
        while (at < line.Length && (char.IsAsciiLetter(line[at]) || line[at] == '_' || (at > from && char.IsAsciiDigit(line[at]))))
            at++;
        return at > from ? line[from..at] : throw new FormatException(line);
    }

    private static string Quoted(string line, ref int at)
    {
        Expect(line, ref at, '=');
        Expect(line, ref at, '"');
        var value = new StringBuilder();
        for (; at < line.Length && line[at] != '"'; at++)
        {
            if (line[at] == '\\')
                value.Append(++at < line.Length ? line[at] switch { 'n' => '\n', '\\' => '\\', '"' => '"', _ => throw new FormatException(line) } : throw new FormatException(line));
            else
                value.Append(line[at]);
        }

        Expect(line, ref at, '"');
        return value.ToString();
    }

    private static void Expect(string line, ref int at, char wanted)
    {
        if (at >= line.Length || line[at++] != wanted)
            throw new FormatException($"{line}: '{wanted}' was expected");
    }
}
