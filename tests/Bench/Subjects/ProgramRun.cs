using System.Diagnostics;

namespace CprSharp.Bench.Subjects;

/// <summary>Runs the measured program.</summary>
internal static class ProgramRun
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(120);

    /// <summary>Runs it to its end and gives back what it printed, and how long it took from exec to exit in milliseconds.</summary>
    /// <exception cref="InvalidOperationException">It failed.</exception>
    public static async Task<(string Output, double Took)> RunAsync(string program, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var errors = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync().WaitAsync(Longest);
        var took = clock.Elapsed.TotalMilliseconds;
        return process.ExitCode == 0
            ? (await output, took)
            : throw new InvalidOperationException($"{program} {string.Join(' ', start.ArgumentList)}: exit code {process.ExitCode}\n{await output}{await errors}");
    }

    /// <summary>The highest resident size seen in MiB. The kernel keeps the peak, so only what the last millisecond adds can be missed.</summary>
    public static async Task<double> PeakMemoryAsync(string program, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardOutput = true };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var peak = 0.0;
        while (!process.HasExited)
        {
            peak = ProcessMemory.PeakOf(process.Id) ?? peak;
            await Task.Delay(1);
        }

        await output;
        return peak;
    }
}
