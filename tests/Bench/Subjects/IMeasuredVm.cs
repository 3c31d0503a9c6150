using System.Text.Json;

namespace CprSharp.Bench.Subjects;

/// <summary>One update, in milliseconds.</summary>
/// <param name="Pause">STOP of the old to RESUME of the new QEMU, by the events' timestamps.</param>
/// <param name="Total">From the request until the guest runs on the new QEMU and the old process is gone.</param>
/// <param name="Parts">What the total is made of, as far as the subject says so.</param>
internal sealed record Sample(double Pause, double Total, IReadOnlyList<Part> Parts)
{
    /// <summary>What <c>cprsharp update --json</c> reported, and its whole run, with its start-up and the check.</summary>
    public static Sample OfReport(string output, double took)
    {
        using var report = JsonDocument.Parse(output);
        var update = report.RootElement;
        return new Sample(
            update.GetProperty("pauseMs").GetDouble(),
            took,
            [
                new Part("command", took - update.GetProperty("totalMs").GetDouble()),
                .. update.GetProperty("phases").EnumerateArray()
                    .Select(p => new Part(p.GetProperty("name").GetString()!, p.GetProperty("durationMs").GetDouble())),
            ]);
    }
}

/// <summary>A part of an update's total time, in milliseconds.</summary>
internal sealed record Part(string Name, double Took);

/// <summary>A running VM that can be updated from QEMU to the same QEMU again and again.</summary>
internal interface IMeasuredVm : IAsyncDisposable
{
    int QemuPid { get; }

    Task<Sample> UpdateAsync(string engine);

    /// <summary>Stops the guest, so that it takes no time from the other subject of the comparison.</summary>
    void Rest();

    void Wake();
}
