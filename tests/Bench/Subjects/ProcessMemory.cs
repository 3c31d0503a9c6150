using System.Globalization;
using CprSharp.Memfd;

namespace CprSharp.Bench.Subjects;

/// <summary>What a process occupies (<c>/proc/PID/smaps_rollup</c>).</summary>
internal static class ProcessMemory
{
    /// <returns>MiB resident, MiB resident with shared pages divided among their users, threads.</returns>
    public static (double Rss, double Pss, int Threads) Of(int pid)
    {
        var lines = File.ReadAllLines($"/proc/{pid}/smaps_rollup");
        return (Mebibytes(lines, "Rss:"), Mebibytes(lines, "Pss:"), ProcFs.Threads(pid).Count);
    }

    /// <summary>The highest resident size so far in MiB; null when the process has ended.</summary>
    public static double? PeakOf(int pid)
    {
        try
        {
            var line = File.ReadLines($"/proc/{pid}/status").FirstOrDefault(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
            return line is null ? null : Mebibytes([line], "VmHWM:");
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static double Mebibytes(string[] lines, string field)
    {
        var line = lines.First(l => l.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / 1024.0;
    }
}
