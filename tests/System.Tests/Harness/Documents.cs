using System.Text.Json;

namespace CprSharp.SystemTests.Harness;

/// <summary>The JSON documents as users are promised them. Further members may be added; none of these may go or change.</summary>
internal static class Documents
{
    private static readonly string[] Phases = ["inspect", "plan", "prepare", "pause", "transfer", "verify", "commit", "retire", "rollback"];

    public static void ExpectUpdateReport(JsonElement report, string vm, int exitCode)
    {
        Assert.Equal(1, report.GetProperty("schema").GetInt32());
        Assert.Equal(vm, report.GetProperty("vm").GetString());
        string[] outcomes = exitCode switch
        {
            0 => ["updated", "planned"],
            1 or 75 => ["failed"],
            3 => ["refused"],
            4 => ["rolledBack"],
            5 => ["unknown"],
            _ => throw new ArgumentOutOfRangeException(nameof(exitCode), exitCode, "no such outcome"),
        };
        ExpectOneOf(report.GetProperty("outcome").GetString()!, outcomes);
        ExpectOneOf(report.GetProperty("engine").ValueKind, JsonValueKind.String, JsonValueKind.Null);
        ExpectEnd(report.GetProperty("from"));
        ExpectEnd(report.GetProperty("to"));
        Assert.True(report.GetProperty("totalMs").GetDouble() >= 0);
        ExpectOneOf(report.GetProperty("pauseMs").ValueKind, JsonValueKind.Number, JsonValueKind.Null);
        var last = 0.0;
        foreach (var phase in report.GetProperty("phases").EnumerateArray())
        {
            ExpectOneOf(phase.GetProperty("name").GetString()!, Phases);
            Assert.True(phase.GetProperty("startMs").GetDouble() >= last, "phases are listed in order");
            last = phase.GetProperty("startMs").GetDouble();
            Assert.True(phase.GetProperty("durationMs").GetDouble() >= 0);
        }

        ExpectFindings(report.GetProperty("findings"));
        var error = report.GetProperty("error");
        Assert.Equal(exitCode == 0 ? JsonValueKind.Null : JsonValueKind.Object, error.ValueKind);
        if (exitCode != 0)
            ExpectError(error);
    }

    public static void ExpectCheckReport(JsonElement report, string vm, string verdict)
    {
        Assert.Equal(1, report.GetProperty("schema").GetInt32());
        Assert.Equal(vm, report.GetProperty("vm").GetString());
        Assert.True(verdict == report.GetProperty("verdict").GetString(), $"verdict {verdict} was expected: {report}");
        foreach (var engine in report.GetProperty("engines").EnumerateArray())
        {
            Assert.NotEmpty(engine.GetProperty("name").GetString()!);
            ExpectOneOf(engine.GetProperty("eligible").ValueKind, JsonValueKind.True, JsonValueKind.False);
            Assert.Equal(JsonValueKind.Array, engine.GetProperty("reasons").ValueKind);
            Assert.Equal(
                engine.GetProperty("eligible").GetBoolean() ? JsonValueKind.Number : JsonValueKind.Null,
                engine.GetProperty("expectedPauseMs").ValueKind);
        }

        ExpectFindings(report.GetProperty("findings"));
    }

    public static void ExpectError(JsonElement error)
    {
        Assert.NotEmpty(error.GetProperty("code").GetString()!);
        Assert.NotEmpty(error.GetProperty("message").GetString()!);
        Assert.Equal(JsonValueKind.String, error.GetProperty("fix").ValueKind);
    }

    public static IEnumerable<string> FindingIds(JsonElement report) =>
        report.GetProperty("findings").EnumerateArray().Select(f => f.GetProperty("id").GetString()!);

    private static void ExpectOneOf<T>(T actual, params T[] expected) =>
        Assert.True(expected.Contains(actual), $"{actual} is none of {string.Join(", ", expected)}");

    private static void ExpectEnd(JsonElement end)
    {
        Assert.Equal(JsonValueKind.String, end.GetProperty("version").ValueKind);
        Assert.StartsWith("/", end.GetProperty("binary").GetString(), StringComparison.Ordinal);
        Assert.True(end.GetProperty("pid").GetInt32() >= 0);
    }

    private static void ExpectFindings(JsonElement findings)
    {
        foreach (var finding in findings.EnumerateArray())
        {
            Assert.NotEmpty(finding.GetProperty("id").GetString()!);
            ExpectOneOf(finding.GetProperty("severity").GetString()!, "pass", "warn", "fail");
            Assert.NotEmpty(finding.GetProperty("object").GetString()!);
            Assert.NotEmpty(finding.GetProperty("evidence").GetString()!);
            Assert.Equal(JsonValueKind.String, finding.GetProperty("fix").ValueKind);
        }
    }
}
