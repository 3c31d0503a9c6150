using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;

namespace CprSharp.SystemTests.Harness;

/// <summary>A VM under <c>cprsharp run</c>.</summary>
internal sealed class TestVm(TestHost host, string name)
{
    /// <summary>A guest that runs (SeaBIOS looking for something to boot) and needs next to nothing.</summary>
    public static string[] Bare { get; } = ["-M", "pc-q35-10.0", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-vga", "none"];

    public TestHost Host { get; } = host;

    public string Name { get; } = name;

    public string Directory => Path.Combine(Host.State, Name);

    public string QmpSocket => Path.Combine(Directory, "qmp.sock");

    public static async Task<TestVm> StartAsync(TestHost host, string name, string[] qemu, IReadOnlyDictionary<string, string>? environment = null)
    {
        var vm = new TestVm(host, name);
        (await host.CprSharpAsync(environment, ["run", "--name", name, "--detach", "--", .. qemu])).Expect(0);
        return vm;
    }

    /// <summary>Runs <c>cprsharp update --json</c> and expects its exit code and a document that agrees with it.</summary>
    public async Task<JsonElement> UpdateAsync(string to, string? engine = null, int exitCode = 0, string? fault = null)
    {
        using var update = StartUpdate(to, engine, fault);
        return await ReportAsync(update, exitCode);
    }

    public RunningProgram StartUpdate(string to, string? engine = null, string? fault = null) =>
        Host.Start(
            fault is null ? null : new Dictionary<string, string>(StringComparer.Ordinal) { ["CPRSHARP_FAULT"] = fault },
            ["update", Name, "--to", to, "--json", .. engine is null ? Array.Empty<string>() : ["--engine", engine]]);

    public async Task<JsonElement> ReportAsync(RunningProgram update, int exitCode)
    {
        return Report(await update.ResultAsync(), exitCode);
    }

    public JsonElement Report(ProgramResult result, int exitCode)
    {
        if (result.ExitCode != exitCode)
            Assert.Fail($"exit code {exitCode} was expected: {result}\n{Logs()}");
        var report = result.Document;
        Documents.ExpectUpdateReport(report, Name, exitCode);
        return report;
    }

    /// <summary>Asks the VM's QMP socket, as a client of its own.</summary>
    public async Task<JsonElement> QmpAsync(string command, JsonObject? arguments = null)
    {
        await using var client = await ConnectAsync();
        return await client.ExecuteAsync(command, arguments).WaitAsync(Deadlines.Program);
    }

    public async Task<string> HumanAsync(string command) =>
        (await QmpAsync("human-monitor-command", new JsonObject { ["command-line"] = command })).GetString() ?? "";

    public async Task<QmpClient> ConnectAsync()
    {
        var client = new QmpClient();
        await client.ConnectAsync(QmpSocket).WaitAsync(Deadlines.Settle);
        return client;
    }

    public async Task<string> RunStateAsync() => (await QmpAsync("query-status")).GetProperty("status").GetString()!;

    /// <summary>Waits until an update is in this phase.</summary>
    public Task UntilUnderWayAsync(string phase) => Deadlines.EventuallyAsync(async () =>
    {
        var status = await QmpAsync("__org.cprsharp_status");
        var now = status.TryGetProperty("updateUnderWay", out var value) ? value.GetString() : null;
        return now == phase ? null : $"phase {phase} was expected, it is {now ?? "none"}";
    });

    public JsonElement Record
    {
        get
        {
            using var document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Directory, "vm.json")));
            return document.RootElement.Clone();
        }
    }

    public int SupervisorPid => Record.GetProperty("supervisorPid").GetInt32();

    public int VmmPid => Record.GetProperty("pid").GetInt32();

    public int Generation => Record.GetProperty("generation").GetInt32();

    /// <summary>One VMM, which runs the guest; its supervisor; and not one process, file or socket more.</summary>
    public async Task ExpectOneRunningVmmAsync(TimeSpan? longest = null)
    {
        var state = await RunStateAsync();
        Assert.True(state == "running", $"the VMM is '{state}'\n{Logs()}");
        await Deadlines.EventuallyAsync(WhatIsTooMuch, longest);
    }

    /// <summary>Every VMM process of this VM that answers when its monitor is asked past the supervisor, which must be dead: its run state.</summary>
    public async Task<IReadOnlyList<string>> RunStatesWithoutSupervisorAsync()
    {
        var states = new List<string>();
        foreach (var socket in System.IO.Directory.EnumerateFiles(Directory, "vmm-*.qmp"))
        {
            await using var client = new QmpClient();
            try
            {
                await client.ConnectAsync(socket).WaitAsync(TimeSpan.FromSeconds(2));
                states.Add((await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString()!);
            }
            catch (Exception e) when (e is IOException or TimeoutException)
            {
                // A dead VMM, or one that still waits for its descriptors and has no machine.
            }
        }

        return states;
    }

    /// <summary>The supervisor's descriptors, counted by what they are: a path, or the kind of what has none. Assemblies are loaded when they are needed, from files or from the program's own.</summary>
    public IReadOnlyDictionary<string, int> SupervisorDescriptors() =>
        System.IO.Directory.EnumerateFiles($"/proc/{SupervisorPid}/fd")
            .Select(f => new FileInfo(f).LinkTarget ?? "")
            .Where(t => t.Length > 0 && t != Components.CprSharp && !t.EndsWith(".dll", StringComparison.Ordinal))
            .CountBy(t => t.Contains(":[", StringComparison.Ordinal) ? t[..t.IndexOf('[', StringComparison.Ordinal)] : t, StringComparer.Ordinal)
            .ToDictionary(StringComparer.Ordinal);

    /// <summary>Of no kind are there more descriptors than before.</summary>
    public Task ExpectNoMoreDescriptorsAsync(IReadOnlyDictionary<string, int> before) => Deadlines.EventuallyAsync(() =>
    {
        var more = SupervisorDescriptors().Where(d => d.Value > before.GetValueOrDefault(d.Key)).ToArray();
        return more.Length == 0
            ? null
            : $"the supervisor has more descriptors than before: {string.Join(", ", more.Select(d => $"{d.Value} {d.Key} instead of {before.GetValueOrDefault(d.Key)}"))}";
    });

    /// <summary>Ends the guest as its operator would, and expects that nothing is left of it.</summary>
    public async Task QuitAsync()
    {
        await using (var client = await ConnectAsync())
        {
            try
            {
                await client.ExecuteAsync("quit").WaitAsync(Deadlines.Settle);
            }
            catch (QmpConnectionException)
            {
                // The answer and the end of the connection race.
            }
        }

        await Deadlines.EventuallyAsync(() => System.IO.Directory.Exists(Directory) ? $"{Directory} is still there\n{Logs()}" : null);
    }

    public async Task<JsonElement[]> HistoryAsync() =>
        [.. (await Host.CprSharpAsync("history", Name, "--json")).Expect(0).Document.GetProperty("updates").EnumerateArray()];

    /// <summary>What the VM's directory holds at this moment; it may go while it is read.</summary>
    public string Logs()
    {
        try
        {
            var text = $"{Directory}: {string.Join(' ', System.IO.Directory.EnumerateFileSystemEntries(Directory).Select(Path.GetFileName))}\n";
            foreach (var log in System.IO.Directory.EnumerateFiles(Directory, "*.log").Order(StringComparer.Ordinal))
                text += $"--- {Path.GetFileName(log)}\n{string.Join('\n', File.ReadLines(log).TakeLast(30))}\n";
            return text;
        }
        catch (Exception e) when (e is DirectoryNotFoundException or FileNotFoundException)
        {
            return $"{Directory} is gone\n";
        }
    }

    private string? WhatIsTooMuch()
    {
        var record = Record;
        int[] expected = [record.GetProperty("supervisorPid").GetInt32(), record.GetProperty("pid").GetInt32()];
        var processes = Host.Processes().Where(p => !p.IsGuardian).ToArray();
        if (Host.Processes().Count - processes.Length > 1)
            return $"more than one guardian:\n{string.Join('\n', Host.Processes())}";
        if (!processes.Select(p => p.Pid).ToHashSet().SetEquals(expected))
            return $"supervisor {expected[0]} and VMM {expected[1]} were expected, there are:\n{string.Join('\n', processes)}\n{Logs()}";

        string[] known = ["vm.json", "qmp.sock", "lock", "supervisor.log", "history.jsonl", $"vmm-{record.GetProperty("generation").GetInt32()}.qmp"];
        var files = System.IO.Directory.EnumerateFileSystemEntries(Directory).Select(f => Path.GetFileName(f)!)
            .Where(f => !known.Contains(f, StringComparer.Ordinal) && !(f.StartsWith("vmm-", StringComparison.Ordinal) && f.EndsWith(".log", StringComparison.Ordinal)))
            .Concat(System.IO.Directory.EnumerateFileSystemEntries(Host.Temporary))
            .ToArray();
        return files.Length == 0 ? null : $"files too many: {string.Join(' ', files)}\n{Logs()}";
    }
}
