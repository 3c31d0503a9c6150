using CprSharp.Memfd;

namespace CprSharp.SystemTests.Harness;

/// <summary>A state directory and a temporary directory of a test's own, and all processes that were started for it.</summary>
/// <remarks>Every process gets a mark in its environment, which its children inherit; so none can hide from the final check.</remarks>
public sealed class TestHost : IAsyncDisposable
{
    private const string MarkVariable = "CPRSHARP_TEST_HOST";
    private const int Kill = 9;
    private readonly string _mark = Guid.NewGuid().ToString("N");
    private readonly List<Func<Task>> _cleanups = [];

    public TestHost()
    {
        // Short: paths of Unix sockets have 107 bytes.
        Root = Path.Combine(Path.GetTempPath(), $"cprst-{_mark[..10]}");
        Directory.CreateDirectory(Root);
        Directory.CreateDirectory(Temporary);
    }

    public string Root { get; }

    public string State => Path.Combine(Root, "state");

    /// <summary>TMPDIR of everything that is started.</summary>
    public string Temporary => Path.Combine(Root, "tmp");

    public string File(string name) => Path.Combine(Root, name);

    /// <summary>An executable shell script.</summary>
    public string Script(string name, string text)
    {
        var path = File(name);
        System.IO.File.WriteAllText(path, $"#!/bin/bash\n{text}\n");
        System.IO.File.SetUnixFileMode(path, (UnixFileMode)0b111_101_101);
        return path;
    }

    internal RunningProgram Start(IReadOnlyDictionary<string, string>? environment, params IEnumerable<string> arguments) =>
        StartProgram(Components.CprSharp, environment, null, arguments);

    internal RunningProgram StartProgram(string path, IReadOnlyDictionary<string, string>? environment, string? workingDirectory, IEnumerable<string> arguments)
    {
        var all = new Dictionary<string, string?>(StringComparer.Ordinal)
        {
            [MarkVariable] = _mark,
            ["CPRSHARP_STATE_DIR"] = State,
            ["CPRSHARP_FAULT"] = null,
            ["TMPDIR"] = Temporary,
            ["NO_COLOR"] = "1",
            ["DOTNET_EnableDiagnostics"] = "0", // the runtime's sockets in TMPDIR outlive a process that is killed
        };
        foreach (var (name, value) in environment ?? new Dictionary<string, string>(StringComparer.Ordinal))
            all[name] = value;
        return new RunningProgram(path, arguments, all, workingDirectory);
    }

    /// <summary>Runs <c>cprsharp</c> to its end.</summary>
    internal Task<ProgramResult> CprSharpAsync(params IEnumerable<string> arguments) => CprSharpAsync(null, arguments);

    internal async Task<ProgramResult> CprSharpAsync(IReadOnlyDictionary<string, string>? environment, IEnumerable<string> arguments)
    {
        using var program = Start(environment, arguments);
        return await program.ResultAsync();
    }

    /// <summary>All processes that were started for this host and that have not ended.</summary>
    public IReadOnlyList<HostProcess> Processes()
    {
        var mark = $"{MarkVariable}={_mark}";
        var found = new List<HostProcess>();
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(directory), out var pid) || pid == Environment.ProcessId)
                continue;
            try
            {
                if (System.IO.File.ReadAllText($"{directory}/environ").Split('\0').Contains(mark, StringComparer.Ordinal))
                    found.Add(new HostProcess(pid, ProcFs.CommandLine(pid)));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended while it was looked at, or is a kernel thread.
            }
        }

        return found;
    }

    /// <summary>Undone on dispose, last first, whatever the test's fate.</summary>
    public void OnDispose(Func<Task> cleanup) => _cleanups.Add(cleanup);

    /// <summary>Nothing of all that was started is left: no process, no file of a VM, no temporary directory.</summary>
    public Task ExpectNothingLeftAsync() => Deadlines.EventuallyAsync(() =>
    {
        string[] left =
        [
            .. Processes().Select(p => $"process {p}"),
            .. Entries(State),
            .. Entries(Temporary),
        ];
        return left.Length == 0 ? null : $"left behind:\n{string.Join('\n', left)}";
    });

    public async ValueTask DisposeAsync()
    {
        for (var round = 0; round < 5 && Processes() is { Count: > 0 } left; round++)
        {
            foreach (var process in left)
                await EndAsync(process.Pid);
        }

        foreach (var cleanup in Enumerable.Reverse(_cleanups))
            await cleanup();
        Directory.Delete(Root, recursive: true);
    }

    /// <summary>Kills by PID, and waits until the process is gone.</summary>
    public static async Task EndAsync(int pid)
    {
        try
        {
            using var process = PidFd.Open(pid);
            process.Signal(Kill);
            await process.WaitForExitAsync(CancellationToken.None).WaitAsync(Deadlines.Settle);
        }
        catch (SyscallException e) when (e.ErrnoName == "ESRCH")
        {
            // Gone already.
        }
    }

    private static string[] Entries(string directory)
    {
        try
        {
            return Directory.Exists(directory) ? Directory.GetFileSystemEntries(directory, "*", SearchOption.AllDirectories) : [];
        }
        catch (DirectoryNotFoundException)
        {
            return [$"{directory}, part of which went while it was listed"];
        }
    }
}

/// <summary>A process of a <see cref="TestHost"/>.</summary>
public sealed record HostProcess(int Pid, IReadOnlyList<string> Arguments)
{
    /// <summary>Whether it is a VMM of a supervisor's making, whatever its binary.</summary>
    public bool IsVmm => Arguments.Any(a => a.Contains("id=cprsharp-qmp", StringComparison.Ordinal));

    /// <summary>Whether it waits for a supervisor's end.</summary>
    public bool IsGuardian => Arguments.Contains("cprsharp-guardian", StringComparer.Ordinal);

    public override string ToString() => $"{Pid}: {string.Join(' ', Arguments)}";
}
