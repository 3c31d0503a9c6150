using System.Diagnostics;
using System.Text;
using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

[assembly: AssemblyFixture(typeof(LibvirtHost))]

namespace CprSharp.LibvirtTests.Harness;

/// <summary>A host of its own with real libvirt and cprsharp as <c>make install</c> installs it, for all tests. Needs root.</summary>
public sealed class LibvirtHost : IAsyncLifetime
{
    /// <summary>Where the host sees the launcher.</summary>
    public const string Emulator = "/usr/local/bin/cprsharp-qemu-system-x86_64";

    /// <summary>The QEMU that this host's libvirt comes with.</summary>
    public const string OwnQemu = "/usr/bin/qemu-system-x86_64";

    private static readonly Dictionary<string, string?> NoEnvironment = [];

    private readonly string _root;
    private readonly string _name;
    private Process? _process;
    private string _first = "";

    public LibvirtHost()
    {
        _root = Path.Combine(Path.GetTempPath(), $"cprlv-{Guid.NewGuid():N}"[..14]);
        _name = "one";
    }

    private LibvirtHost(LibvirtHost other, string name) => (_root, _name) = (other._root, name);

    /// <summary>Both sides see it under this name.</summary>
    public string Shared => Path.Combine(_root, "shared");

    /// <summary>cprsharp's settings on that host.</summary>
    private string SettingsFile => Path.Combine(Shared, "etc", "cprsharp.json");

    public string File(string name) => Path.Combine(Shared, name);

    /// <summary>Where a libvirt client that shares <see cref="Shared"/> connects.</summary>
    public string ConnectUri => $"qemu+unix:///system?socket={File(_name)}/libvirt-sock";

    /// <summary>Starts another host beside this one.</summary>
    internal async Task<LibvirtHost> StartOtherAsync(string name)
    {
        var other = new LibvirtHost(this, name);
        await other.StartAsync();
        return other;
    }

    public async ValueTask InitializeAsync()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(SettingsFile)!);
        using (var install = new RunningProgram(Components.Install, [Path.Combine(_root, "prefix"), Path.Combine(_root, "etc")], NoEnvironment, null))
            (await install.ResultAsync()).Expect(0);
        System.IO.File.Copy(Path.Combine(_root, "etc", "libvirt", "hooks", "qemu.d", "cprsharp"), File("hook"));
        await StartAsync();
    }

    private async Task StartAsync()
    {
        var start = new ProcessStartInfo(Components.LibvirtHost) { RedirectStandardInput = true, RedirectStandardError = true };
        foreach (var argument in (string[])[Components.LibvirtRoot, Path.Combine(_root, "prefix"), Shared, _name])
            start.ArgumentList.Add(argument);
        _process = Process.Start(start)!;
        var errors = new StringBuilder();
        _process.ErrorDataReceived += (_, e) => errors.AppendLine(e.Data);
        _process.BeginErrorReadLine();
        await Deadlines.EventuallyAsync(
            () => System.IO.File.Exists(File($"{_name}.pid")) ? null : $"the host with libvirt does not come up{(_process.HasExited ? $" (exit code {_process.ExitCode})" : "")}: {errors}",
            Deadlines.Program);
        _first = (await System.IO.File.ReadAllTextAsync(File($"{_name}.pid"))).Trim();
        await RunAsync("ln", "-s", Path.GetDirectoryName(SettingsFile)!, "/etc/cprsharp");
    }

    /// <summary>The host ends with its standard input, and takes everything with it.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            _process.StandardInput.Close();
            await _process.WaitForExitAsync().WaitAsync(Deadlines.Settle);
            _process.Dispose();
        }

        if (_name == "one")
            Directory.Delete(_root, recursive: true);
    }

    /// <summary>Starts a program on the host.</summary>
    internal RunningProgram Start(params string[] command) => Start(command, "nsenter");

    /// <summary>Starts a program on the host that somebody at a terminal uses.</summary>
    /// <param name="terminal">Its standard input, a name of outside.</param>
    /// <param name="output">A file for what it prints, of outside.</param>
    /// <param name="command">The program.</param>
    internal RunningProgram StartOn(string terminal, string output, params string[] command) =>
        Start(command, "sh", "-c", $"exec \"$@\" <{terminal} >{output} 2>&1", "-", "nsenter");

    private RunningProgram Start(string[] command, string program, params string[] by) => new(
        program,
        [
            .. by, "-t", _first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "NO_COLOR=1", "DOTNET_EnableDiagnostics=0", .. command,
        ],
        NoEnvironment, null);

    /// <summary>Runs a program on the host to its end, whatever that is.</summary>
    internal async Task<ProgramResult> TryAsync(params string[] command)
    {
        using var program = Start(command);
        return await program.ResultAsync();
    }

    /// <summary>Runs a program on the host, which has to succeed.</summary>
    internal async Task<string> RunAsync(params string[] command) => (await TryAsync(command)).Expect(0).Output.Trim();

    internal Task<string> VirshAsync(params string[] arguments) => RunAsync(["virsh", "-q", .. arguments]);

    /// <summary>Settings of cprsharp from here on; an empty section: the defaults.</summary>
    public void Configure(params (string Key, string Value)[] libvirt) => System.IO.File.WriteAllText(
        SettingsFile, $$"""{ "Libvirt": { {{string.Join(", ", libvirt.Select(s => $"\"{s.Key}\": \"{s.Value}\""))}} } }""");

    /// <summary>Restarts libvirtd, as an upgrade of it does.</summary>
    internal async Task RestartLibvirtdAsync()
    {
        await RunAsync("sh", "-c", "kill $(cat /run/libvirtd.pid); while [ -e /run/libvirtd.pid ]; do sleep 0.05; done; libvirtd -d");
        await Deadlines.EventuallyAsync(async () => (await TryAsync("virsh", "-q", "list")) is { ExitCode: not 0 } failed ? failed.ToString() : null);
    }

    /// <summary>Processes on the host whose command line says this.</summary>
    internal async Task<int[]> ProcessesAsync(string text)
    {
        var found = await RunAsync(
            "sh", "-c", $"for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in *sh\\ -c*) ;; *'{text}'*) echo ${{p#/proc/}} ;; esac; done");
        return [.. found.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(p => int.Parse(p, System.Globalization.CultureInfo.InvariantCulture))];
    }
}
