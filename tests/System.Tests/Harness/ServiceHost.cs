using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;

namespace CprSharp.SystemTests.Harness;

/// <summary>A Debian with systemd as its first process, and with the package that was published. Needs root.</summary>
internal sealed class ServiceHost : IAsyncDisposable
{
    /// <summary>The one VM.</summary>
    public const string Unit = "cprsharp@web1.service";

    public const string Qemu100 = "/opt/qemu-10.0/usr/bin/qemu-system-x86_64";

    public const string Qemu111 = "/opt/qemu-11.1/usr/bin/qemu-system-x86_64";

    private static readonly Dictionary<string, string?> NoEnvironment = [];

    private static readonly Dictionary<string, string?> Uncompressed = new(StringComparer.Ordinal) { ["DPKG_DEB_COMPRESSOR_TYPE"] = "none" };

    private readonly string _shared = Path.Combine(Path.GetTempPath(), $"cprsv-{Guid.NewGuid():N}"[..16]);
    private readonly StringBuilder _errors = new();
    private Process? _process;
    private string _first = "";

    public static async Task<ServiceHost> StartAsync()
    {
        var host = new ServiceHost();
        try
        {
            await host.BootAsync();
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    /// <summary>A path of the host's, as the outside sees it.</summary>
    public string Inside(string path) => $"/proc/{_first}/root{path}";

    /// <summary>Builds the package as of a version and installs it, over an older one, too.</summary>
    public async Task InstallAsync(string version)
    {
        using var build = new RunningProgram(Components.OfRepository("packaging/build-deb"), ["--version", version, _shared], Uncompressed, null);
        await RunAsync("dpkg", "-i", (await build.ResultAsync()).Expect(0).Output.Trim());
        Assert.Equal(version, await RunAsync("dpkg-query", "-W", "-f", "${Version}", "cprsharp"));
    }

    /// <summary>Says which VM the unit is, with additions to the unit and to QEMU's command line, and starts it.</summary>
    public async Task StartVmAsync(string? unit = null, params string[] options)
    {
        await File.WriteAllTextAsync(Inside("/etc/cprsharp/vm/web1"), $"QEMU=\"{string.Join(' ', [Qemu111, .. TestVm.Bare, .. options])}\"\n");
        if (unit is not null)
        {
            Directory.CreateDirectory(Inside($"/etc/systemd/system/{Unit}.d"));
            await File.WriteAllTextAsync(Inside($"/etc/systemd/system/{Unit}.d/test.conf"), $"[Service]\n{unit}\n");
            await RunAsync("systemctl", "daemon-reload");
        }

        await RunAsync("systemctl", "start", Unit);
    }

    public Task<string> ShowAsync(string property) => RunAsync("systemctl", "show", "-P", property, Unit);

    public async Task<int> MainPidAsync() => int.Parse(await ShowAsync("MainPID"), CultureInfo.InvariantCulture);

    /// <summary>The QEMU that has the guest, which must run: its process, in the host's own count.</summary>
    public async Task<int> RunningVmmAsync()
    {
        Assert.Equal("running", (await QmpAsync("query-status")).GetProperty("status").GetString());
        return (await QmpAsync("__org.cprsharp_status")).GetProperty("vmm").GetProperty("pid").GetInt32();
    }

    public async Task<JsonElement> QmpAsync(string command, JsonObject? arguments = null)
    {
        await using var client = new QmpClient();
        await client.ConnectAsync(Inside("/run/cprsharp/web1/qmp.sock")).WaitAsync(Deadlines.Settle);
        return await client.ExecuteAsync(command, arguments).WaitAsync(Deadlines.Program);
    }

    public bool HasProcess(int pid) => Directory.Exists(Inside($"/proc/{pid}"));

    /// <summary>Runs a program on the host, which has to succeed.</summary>
    public async Task<string> RunAsync(params string[] command)
    {
        using var program = new RunningProgram(
            "nsenter",
            ["-t", _first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "NO_COLOR=1", "DOTNET_EnableDiagnostics=0", .. command],
            NoEnvironment, null);
        var result = await program.ResultAsync();
        if (result.ExitCode != 0 && command[0] != "journalctl")
            Assert.Fail($"{result}\n{await RunAsync("journalctl", "--no-pager", "-n", "60")}");
        return result.Expect(0).Output.Trim();
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

        Directory.Delete(_shared, recursive: true);
    }

    private async Task BootAsync()
    {
        Directory.CreateDirectory(_shared);
        var start = new ProcessStartInfo(Components.ServiceHost) { RedirectStandardInput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Components.ServiceRoot);
        start.ArgumentList.Add(_shared);
        _process = Process.Start(start)!;
        _process.ErrorDataReceived += (_, e) => _errors.AppendLine(e.Data);
        _process.BeginErrorReadLine();
        var pid = Path.Combine(_shared, "pid");
        await Deadlines.EventuallyAsync(() => File.Exists(pid) ? null : $"the host does not come up: {_errors}");
        _first = (await File.ReadAllTextAsync(pid)).Trim();
        await Deadlines.EventuallyAsync(() => File.Exists(Inside("/run/systemd/private")) ? null : $"systemd does not come up: {_errors}");
        Assert.Equal("running", await RunAsync("systemctl", "is-system-running", "--wait"));
    }
}
