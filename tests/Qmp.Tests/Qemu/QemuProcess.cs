using System.Diagnostics;
using System.Net.Sockets;

namespace CprSharp.Qmp.Tests.Qemu;

/// <summary>A real QEMU without a machine, with one QMP monitor on a socket.</summary>
internal sealed class QemuProcess : IAsyncDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("cprsharp-qmp-");
    private readonly Task<string> _errors;

    public QemuProcess(bool pretty = false)
    {
        SocketPath = Path.Combine(_directory.FullName, "qmp.sock");
        var start = new ProcessStartInfo(FindBinary()) { RedirectStandardError = true, RedirectStandardOutput = true };
        string[] arguments =
        [
            "-machine", "none", "-nodefaults", "-display", "none", "-S",
            "-chardev", $"socket,id=m,path={SocketPath},server=on,wait=off", "-mon", $"chardev=m,mode=control,pretty={(pretty ? "on" : "off")}",
        ];
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        Process = Process.Start(start)!;
        _errors = Process.StandardError.ReadToEndAsync();
    }

    public Process Process { get; }

    public string SocketPath { get; }

    /// <summary>QEMU gives no sign when its socket is there; the directory's watcher does.</summary>
    public async Task<QmpClient> ConnectAsync(QmpClientOptions? options = null)
    {
        var client = new QmpClient(options);
        await ConnectAsync(client);
        return client;
    }

    public async Task ConnectAsync(QmpClient client)
    {
        using var watcher = new FileSystemWatcher(_directory.FullName);
        var appeared = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        watcher.Created += (_, _) => appeared.TrySetResult();
        watcher.EnableRaisingEvents = true;
        if (!File.Exists(SocketPath) && await Task.WhenAny(appeared.Task, _errors).WaitAsync(Deadline.Long) == _errors)
            throw new InvalidOperationException($"QEMU did not start: {await _errors}");
        while (true)
        {
            try
            {
                await client.ConnectAsync(SocketPath).WaitAsync(Deadline.Long);
                return;
            }
            catch (QmpConnectionException e) when (e.InnerException is SocketException { SocketErrorCode: SocketError.ConnectionRefused })
            {
                // Bound, not yet listening: a window of microseconds in QEMU.
                await Task.Yield();
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (!Process.HasExited) Process.Kill();
        await Process.WaitForExitAsync().WaitAsync(Deadline.Long);
        Process.Dispose();
        _directory.Delete(recursive: true);
    }

    private static string FindBinary()
    {
        if (Environment.GetEnvironmentVariable("CPRSHARP_TEST_QEMU") is { Length: > 0 } chosen)
            return File.Exists(chosen) ? chosen : throw new InvalidOperationException($"CPRSHARP_TEST_QEMU={chosen} does not exist.");
        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Select(d => Path.Combine(d, "qemu-system-x86_64")).FirstOrDefault(File.Exists)
            ?? throw new InvalidOperationException(
                "These tests need a real QEMU: put qemu-system-x86_64 on PATH or name it in CPRSHARP_TEST_QEMU.");
    }
}
