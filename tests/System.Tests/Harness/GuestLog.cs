using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace CprSharp.SystemTests.Harness;

/// <summary>What the guest's workload has said on its serial port, as QEMU or libvirt writes it to a file.</summary>
internal sealed partial class GuestLog(string path)
{
    /// <summary>Waits until the workload runs, and has written to its disk if it has one.</summary>
    public Task ReadyAsync(bool hasDisk = true) => Deadlines.EventuallyAsync(
        () => Reports() is { Count: > 1 } reports && (!hasDisk || reports[^1].DiskSequence > 0) ? null : $"the guest does not come up; it said:\n{Tail()}",
        Deadlines.Guest);

    /// <summary>Waits until the guest says anything at all; whether it has.</summary>
    public async Task<bool> BeginsAsync(TimeSpan longest) =>
        await Deadlines.StillWrongAsync(() => Task.FromResult(new FileInfo(path) is { Exists: true, Length: > 0 } ? null : "silent"), longest) is null;

    /// <summary>The guest goes on: it reports anew, twice.</summary>
    public Task GoesOnAsync()
    {
        var before = Reports().Count;
        return Deadlines.EventuallyAsync(() => Reports().Count >= before + 2 ? null : $"the guest is silent; it said:\n{Tail()}", Deadlines.Guest);
    }

    /// <summary>
    /// Nothing was lost, repeated or turned back since the guest started: a tick for every millisecond (late ones are made up for), and
    /// not one error in memory, on the disk or of the clocks.
    /// </summary>
    public async Task ExpectUnharmedAsync()
    {
        var first = Reports().Min(r => r.Milliseconds - r.Ticks);
        await Deadlines.EventuallyAsync(() =>
        {
            var lag = Reports()[^1] is var last ? last.Milliseconds - last.Ticks : 0;
            return lag <= first + 5 ? null : $"{lag - first} ticks are missing";
        }, Deadlines.Guest);

        GuestReport? before = null;
        foreach (var report in Reports())
        {
            Assert.True(report is { MemoryErrors: 0, DiskErrors: 0, ClockErrors: 0 }, $"the guest found errors: {report}\n{Tail()}");
            Assert.True(report.Ticks <= report.Milliseconds - first + 5, $"ticks were repeated: {report}");
            if (before is not null)
            {
                // Two reports can follow each other within one late tick; that none is missing in the end is seen above.
                Assert.True(report.Milliseconds > before.Milliseconds && report.Ticks >= before.Ticks, $"time went backwards: {before} then {report}");
                Assert.True(report.DiskSequence >= before.DiskSequence && report.MemoryRounds >= before.MemoryRounds, $"work was undone: {before} then {report}");
            }

            before = report;
        }
    }

    public IReadOnlyList<GuestReport> Reports() => !File.Exists(path) ? [] : [.. Report().Matches(Text()).Select(m => new GuestReport(
        Number(m, "t"), Number(m, "ticks"), Number(m, "rounds"), Number(m, "memory"), Number(m, "seq"), Number(m, "disk"), Number(m, "clock")))];

    private static long Number(Match match, string group) => long.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);

    /// <summary>How often the workload has begun.</summary>
    public int Boots() => File.Exists(path) ? Text().Split("CPRSHARP ready").Length - 1 : 0;

    public string Text()
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(stream, Encoding.Latin1);
        return reader.ReadToEnd();
    }

    public string Tail() => File.Exists(path) ? Text() is var text && text.Length > 2000 ? text[^2000..] : text : "(nothing)";

    [GeneratedRegex(
        @"CPRSHARP t=(?<t>\d+) ticks=(?<ticks>\d+) gaps=\d+ maxgap_ms=[\d.]+ mem_rounds=(?<rounds>\d+) mem_errors=(?<memory>\d+) disk_seq=(?<seq>\d+) disk_errors=(?<disk>\d+) clock_errors=(?<clock>\d+)\r?\n",
        RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Report();
}

/// <summary>One line of the workload's report.</summary>
internal sealed record GuestReport(long Milliseconds, long Ticks, long MemoryRounds, long MemoryErrors, long DiskSequence, long DiskErrors, long ClockErrors);
