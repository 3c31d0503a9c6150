using System.Globalization;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>What the kernel tells of an io_uring instance (<c>/proc/PID/fdinfo/N</c>, io_uring/fdinfo.c).</summary>
/// <param name="Submitted">Requests that the kernel has taken, as a counter that wraps.</param>
/// <param name="Completed">Requests that it has answered, as a counter that wraps.</param>
/// <param name="Polls">Requests under way that only wait for readiness (IORING_OP_POLL_ADD).</param>
public sealed record IoUringInfo(uint Submitted, uint Completed, int Polls)
{
    private const string PollOperation = "op=6,";

    /// <summary>Requests under way that move data, or wait for time.</summary>
    public int InFlight => (int)(Submitted - Completed) - Polls;

    /// <summary>Reads it.</summary>
    /// <param name="pid">The process that has it open.</param>
    /// <param name="number">Its descriptor there.</param>
    /// <returns>Null when the kernel does not say, because it is too old or the instance is being used at this very moment.</returns>
    /// <exception cref="SyscallException">open: ENOENT (closed, or the process has ended), EACCES (may not be traced).</exception>
    public static IoUringInfo? Read(int pid, int number) => Parse(ProcFile.ReadText($"/proc/{pid}/fdinfo/{number}"));

    internal static IoUringInfo? Parse(string text)
    {
        var lines = text.Split('\n', StringSplitOptions.TrimEntries);
        return Array.IndexOf(lines, "PollList:") >= 0 && Counter("CachedSqHead:") is { } submitted && Counter("CachedCqTail:") is { } completed
            ? new IoUringInfo(submitted, completed, lines.Count(l => l.StartsWith(PollOperation, StringComparison.Ordinal)))
            : null;

        uint? Counter(string name) =>
            Array.Find(lines, l => l.StartsWith(name, StringComparison.Ordinal)) is { } line
                && uint.TryParse(line.AsSpan(name.Length).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var value)
                ? value
                : null;
    }
}
