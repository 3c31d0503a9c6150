using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using CprSharp.Memfd;

namespace CprSharp.SystemTests.Harness;

/// <summary>The Linux guest with its workload, spoken to over its serial port.</summary>
/// <remarks>QEMU writes what the guest says into a log whether a client is connected or not, so that nothing is missed over an update.</remarks>
internal sealed partial class LinuxGuest(TestHost host)
{
    private string SerialSocket => host.File("serial.sock");

    private string SerialLog => host.File("serial.log");

    public string Disk => host.File("disk.img");

    /// <summary>What a command line needs to start it, without its disk's device and its network.</summary>
    public string[] Arguments()
    {
        using (var disk = File.Create(Disk))
            disk.SetLength(8 << 20);
        return
        [
            "-accel", "tcg", "-kernel", Components.GuestKernel, "-initrd", Components.GuestInitrd,
            "-append", $"{Components.GuestAppend} cprsharp.mem=32 cprsharp.duty=10 cprsharp.ide",
            "-display", "none", "-nodefaults", "-no-reboot",
            "-drive", $"file={Disk},if=none,id=disk,format=raw",
            "-chardev", $"socket,id=serial,path={SerialSocket},server=on,wait=off,logfile={SerialLog}", "-serial", "chardev:serial",
        ];
    }

    /// <summary>Waits until the workload runs and has written to its disk.</summary>
    public Task ReadyAsync() => Deadlines.EventuallyAsync(
        () => Reports() is { Count: > 1 } reports && reports[^1].DiskSequence > 0 ? null : $"the guest does not come up; it said:\n{Tail()}",
        Deadlines.Guest);

    /// <summary>Sends a line, and waits for an answer that comes after it.</summary>
    public async Task<string> AskAsync(string command, string answer)
    {
        var before = new FileInfo(SerialLog).Length;
        using var socket = UnixSocket.Connect(SerialSocket);
        await socket.SendAsync(Encoding.ASCII.GetBytes(command + "\n"));
        string? line = null;
        await Deadlines.EventuallyAsync(() =>
        {
            line = Text()[(int)before..].Split('\n').FirstOrDefault(l => l.StartsWith($"CPRSHARP {answer}", StringComparison.Ordinal));
            return line is null ? $"the guest does not answer '{command}'; it said:\n{Tail()}" : null;
        }, Deadlines.Guest);
        socket.Shutdown(SocketShutdown.Both);
        return line!.TrimEnd('\r');
    }

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
                Assert.True(report.Milliseconds > before.Milliseconds && report.Ticks > before.Ticks, $"time went backwards: {before} then {report}");
                Assert.True(report.DiskSequence >= before.DiskSequence && report.MemoryRounds >= before.MemoryRounds, $"work was undone: {before} then {report}");
            }

            before = report;
        }
    }

    /// <summary>Every block the guest has ever written is whole and in its place, seen from outside.</summary>
    public async Task ExpectWholeDiskAsync()
    {
        await AskAsync("sync", "synced");
        using var verify = host.StartProgram(Components.VerifyDisk, null, null, [Disk]);
        Assert.Contains("torn=0", (await verify.ResultAsync()).Expect(0).Output);
    }

    public IReadOnlyList<GuestReport> Reports() => !File.Exists(SerialLog) ? [] : [.. Report().Matches(Text()).Select(m => new GuestReport(
        Number(m, "t"), Number(m, "ticks"), Number(m, "rounds"), Number(m, "memory"), Number(m, "seq"), Number(m, "disk"), Number(m, "clock")))];

    private static long Number(Match match, string group) => long.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);

    private string Text()
    {
        using var stream = new FileStream(SerialLog, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(stream, Encoding.Latin1);
        return reader.ReadToEnd();
    }

    private string Tail() => File.Exists(SerialLog) ? Text() is var text && text.Length > 2000 ? text[^2000..] : text : "(nothing)";

    [GeneratedRegex(
        @"CPRSHARP t=(?<t>\d+) ticks=(?<ticks>\d+) gaps=\d+ maxgap_ms=[\d.]+ mem_rounds=(?<rounds>\d+) mem_errors=(?<memory>\d+) disk_seq=(?<seq>\d+) disk_errors=(?<disk>\d+) clock_errors=(?<clock>\d+)\r?\n",
        RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Report();
}

/// <summary>One line of the workload's report.</summary>
internal sealed record GuestReport(long Milliseconds, long Ticks, long MemoryRounds, long MemoryErrors, long DiskSequence, long DiskErrors, long ClockErrors);
