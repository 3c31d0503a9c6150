using System.Diagnostics;
using CprSharp.Memfd;

namespace CprSharp.SystemTests.Harness;

/// <summary>A program that was started and is not yet waited for. Its output is read all the time.</summary>
internal sealed class RunningProgram : IDisposable
{
    private readonly Process _process;
    private readonly string _command;
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly Task<string> _output;
    private readonly Task<string> _errors;

    public RunningProgram(string path, IEnumerable<string> arguments, IReadOnlyDictionary<string, string?> environment, string? workingDirectory)
    {
        var start = new ProcessStartInfo(path) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = workingDirectory ?? "" };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment)
        {
            if (value is null)
                start.Environment.Remove(name);
            else
                start.Environment[name] = value;
        }

        _command = string.Join(' ', start.ArgumentList.Prepend(Path.GetFileName(path)));
        _process = Process.Start(start)!;
        _output = _process.StandardOutput.ReadToEndAsync();
        _errors = _process.StandardError.ReadToEndAsync();
    }

    public int Pid => _process.Id;

    public bool HasExited => _process.HasExited;

    /// <summary>All of its standard input.</summary>
    public void Type(string text)
    {
        _process.StandardInput.Write(text);
        _process.StandardInput.Close();
    }

    public void Signal(int signal)
    {
        using var process = PidFd.Open(Pid);
        process.Signal(signal);
    }

    public async Task<ProgramResult> ResultAsync(TimeSpan? longest = null)
    {
        var deadline = longest ?? Deadlines.Program;
        try
        {
            await _process.WaitForExitAsync().WaitAsync(deadline);
        }
        catch (TimeoutException)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
            Assert.Fail($"did not end within {deadline.TotalSeconds:0} s: {await ResultNowAsync()}");
        }

        return await ResultNowAsync();
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
    }

    /// <summary>Whoever still holds the pipes after the program's end is a stray process, which the host's own check names.</summary>
    private async Task<ProgramResult> ResultNowAsync() =>
        new(_command, _process.ExitCode, await SoFarAsync(_output), await SoFarAsync(_errors), _watch.Elapsed);

    private static async Task<string> SoFarAsync(Task<string> text)
    {
        try
        {
            return await text.WaitAsync(TimeSpan.FromSeconds(5));
        }
        catch (TimeoutException)
        {
            return "(another process still holds this pipe)";
        }
    }
}
