using System.Diagnostics;

namespace CprSharp.Bench.Subjects;

/// <summary>A host with real libvirt, and cprsharp as it is installed, in namespaces of its own: <c>integration-vm/libvirt/host</c>. Needs root.</summary>
internal sealed class LibvirtHost : IAsyncDisposable
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly string _name;

    private LibvirtHost(Process process, string shared, string name)
    {
        _process = process;
        _name = name;
        Shared = shared;
    }

    /// <summary>Where domains find the emulator.</summary>
    public static string Emulator => "/usr/local/bin/cprsharp-qemu-system-x86_64";

    /// <summary>A directory with the same path on both sides.</summary>
    public string Shared { get; }

    /// <summary>Its first process.</summary>
    private int Pid { get; set; }

    /// <param name="components">What is installed there.</param>
    /// <param name="directory">A fresh one.</param>
    /// <param name="settings">What <c>/etc/cprsharp/cprsharp.json</c> says.</param>
    public static async Task<LibvirtHost> StartAsync(Components components, string directory, string settings)
    {
        var (prefix, shared, etc) = (Path.Combine(directory, "prefix"), Path.Combine(directory, "shared"), Path.Combine(directory, "shared", "etc"));
        Directory.CreateDirectory(etc);
        await File.WriteAllTextAsync(Path.Combine(etc, "cprsharp.json"), settings);
        await ProgramRun.RunAsync("env", [$"PROGRAM={components.Program}", Variable("CPRSHARP_INSTALL"), prefix]);
        var start = new ProcessStartInfo(Variable("CPRSHARP_LIBVIRT_HOST")) { UseShellExecute = false, RedirectStandardInput = true };
        foreach (var argument in (string[])[Variable("CPRSHARP_LIBVIRT_ROOT"), prefix, shared, "bench"])
            start.ArgumentList.Add(argument);
        var host = new LibvirtHost(Process.Start(start)!, shared, "bench");
        try
        {
            await host.WaitAsync();
            await host.RunAsync("ln", "-s", etc, "/etc/cprsharp");
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    /// <summary>Runs a program there to its end; what it printed, and how long it took in milliseconds.</summary>
    public Task<(string Output, double Took)> RunAsync(params string[] command) => ProgramRun.RunAsync(
        "nsenter",
        [
            "-t", $"{Pid}", "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "DOTNET_EnableDiagnostics=0", .. command,
        ]);

    /// <summary>A path of the host's, as it is seen from here.</summary>
    public string FromHere(string path) => $"/proc/{Pid}/root{path}";

    /// <summary>The host ends with its standard input, and takes everything with it.</summary>
    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync().WaitAsync(Longest);
        _process.Dispose();
    }

    private async Task WaitAsync()
    {
        var ready = Path.Combine(Shared, $"{_name}.pid");
        var clock = Stopwatch.StartNew();
        while (!File.Exists(ready))
        {
            if (_process.HasExited || clock.Elapsed > Longest)
                throw new InvalidOperationException($"the host with libvirt does not come up{(_process.HasExited ? $": exit code {_process.ExitCode}" : "")}");
            await Task.Delay(50);
        }

        Pid = int.Parse(await File.ReadAllTextAsync(ready), System.Globalization.CultureInfo.InvariantCulture);
    }

    private static string Variable(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value
            ? value
            : throw new InvalidOperationException($"{name} is not set; run it by `make bench`");
}
