using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Bench.Subjects;

/// <summary>QEMU as somebody would drive it by hand who knows how: the new one resumes the guest by itself.</summary>
/// <remarks>
/// No <c>-S</c>, no return path, no description switched off, nothing checked and nothing to fall back to. Guest RAM is a memfd that
/// both processes inherit. Waits are for events alone: the sockets on which QEMU is to answer are made here and inherited, so there is
/// no waiting for a name to appear.
/// </remarks>
internal sealed class BareVm : IMeasuredVm
{
    private const int MemoryDescriptor = 200;
    private const int MonitorDescriptor = 201;
    private const int CprDescriptor = 202;

    private readonly string _qemu;
    private readonly string _directory;
    private readonly VmShape _shape;
    private readonly SafeFileHandle _memory;
    private Started _current;
    private int _generation;

    private BareVm(string qemu, string directory, VmShape shape)
    {
        _qemu = qemu;
        _directory = directory;
        _shape = shape;
        _memory = Memfd.Memfd.Create("bare-ram", (long)shape.MemoryMiB << 20);
        _current = Start([], []);
        _current.Connect();
    }

    public int QemuPid => _current.Process.Pid;

    public BareQmp Qmp => _current.Qmp;

    public static async Task<BareVm> StartAsync(Components components, string directory, VmShape shape)
    {
        Directory.CreateDirectory(directory);
        var serial = Path.Combine(directory, "serial");
        var vm = new BareVm(components.Qemu, directory, shape with { Arguments = [.. shape.Arguments, .. GuestSerial.Arguments(shape, serial)] });
        if (shape.BootsLinux)
            await GuestSerial.WaitUntilReadyAsync(serial);
        return vm;
    }

    public async Task<Sample> UpdateAsync(string engine)
    {
        while (true)
        {
            if (await TryUpdateAsync(engine) is { } sample)
                return sample;
        }
    }

    public void Rest() => _current.Qmp.Execute("""{"execute":"stop"}""");

    public void Wake()
    {
        _current.Qmp.Execute("""{"execute":"cont"}""");
        _current.Qmp.WaitFor("RESUME");
        _current.Qmp.WaitFor("STOP");
    }

    public async ValueTask DisposeAsync()
    {
        await _current.DisposeAsync();
        _memory.Dispose();
    }

    /// <returns>Null when the new QEMU resumed the guest before its monitor was ready to tell: nobody knows then how long the pause was.</returns>
    private async Task<Sample?> TryUpdateAsync(string engine)
    {
        var clock = Stopwatch.StartNew();
        var main = Path.Combine(_directory, "main");
        File.Delete(main);
        var old = _current;
        var fresh = engine == "transfer" ? Transfer(old, main) : ShareMemory(old, main);
        _current = fresh;

        JsonElement? resumed = null;
        try
        {
            resumed = fresh.Qmp.WaitFor("RESUME");
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock)
        {
            if (fresh.Qmp.Execute("""{"execute":"query-status"}""").GetProperty("status").GetString() != "running")
                throw new TimeoutException("QEMU driven bare did not resume its guest", e);
        }

        var stopped = old.Qmp.WaitFor("STOP");
        old.Qmp.WaitFor("MIGRATION", IsCompleted);
        await old.DisposeAsync();
        return resumed is { } r ? new Sample(BareQmp.Time(r) - BareQmp.Time(stopped), clock.Elapsed.TotalMilliseconds, []) : null;
    }

    private Started Transfer(Started old, string main)
    {
        var cpr = Path.Combine(_directory, "cpr");
        File.Delete(cpr);
        using var listener = UnixSocket.Listen(cpr);
        var fresh = Start(
            ["-incoming", $"unix:{main}", "-incoming", $$$"""{"channel-type":"cpr","addr":{"transport":"socket","type":"fd","str":"{{{CprDescriptor}}}"}}"""],
            [new InheritedDescriptor(listener.SafeHandle, CprDescriptor)]);
        old.Qmp.Execute("""{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true},{"capability":"x-ignore-shared","state":false}]}}""");
        old.Qmp.Execute("""{"execute":"migrate-set-parameters","arguments":{"mode":"cpr-transfer"}}""");
        old.Qmp.Execute($$$"""
            {"execute":"migrate","arguments":{"channels":[
            {"channel-type":"main","addr":{"transport":"socket","type":"unix","path":"{{{main}}}"}},
            {"channel-type":"cpr","addr":{"transport":"socket","type":"unix","path":"{{{cpr}}}"}}]}}
            """.ReplaceLineEndings(""));
        fresh.Connect();
        return fresh;
    }

    private Started ShareMemory(Started old, string main)
    {
        const string Capabilities = """{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true},{"capability":"x-ignore-shared","state":true}]}}""";
        var fresh = Start(["-incoming", "defer"], []);
        fresh.Connect();
        fresh.Qmp.Execute(Capabilities);
        old.Qmp.Execute(Capabilities);
        old.Qmp.Execute("""{"execute":"migrate-set-parameters","arguments":{"mode":"normal","max-bandwidth":0,"downtime-limit":1}}""");
        fresh.Qmp.Execute($$$"""{"execute":"migrate-incoming","arguments":{"uri":"unix:{{{main}}}"}}""");
        old.Qmp.Execute($$$"""{"execute":"migrate","arguments":{"uri":"unix:{{{main}}}"}}""");
        return fresh;
    }

    private Started Start(IReadOnlyList<string> incoming, IReadOnlyList<InheritedDescriptor> descriptors)
    {
        var generation = ++_generation;
        var monitor = Path.Combine(_directory, $"qmp-{generation}");
        using var listener = UnixSocket.Listen(monitor);
        using var log = File.OpenHandle(Path.Combine(_directory, $"log-{generation}"), FileMode.Create, FileAccess.Write);
        var process = ChildProcess.Start(new ChildProcessStart
        {
            Path = _qemu,
            Arguments =
            [
                "-machine", $"{VmShape.Machine},memory-backend=ram0,aux-ram-share=on",
                "-m", _shape.MemoryMiB.ToString(CultureInfo.InvariantCulture),
                "-object", $"memory-backend-file,id=ram0,size={_shape.MemoryMiB}M,mem-path=/proc/self/fd/{MemoryDescriptor},share=on",
                "-chardev", $"socket,id=qmp,fd={MonitorDescriptor},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
                .. _shape.Arguments,
                .. incoming,
            ],
            Descriptors = [new InheritedDescriptor(_memory, MemoryDescriptor), new InheritedDescriptor(listener.SafeHandle, MonitorDescriptor), .. descriptors],
            StandardOutput = log,
            StandardError = log,
        });
        return new Started(process, monitor);
    }

    private static bool IsCompleted(JsonElement happened) => happened.GetProperty("data").GetProperty("status").GetString() switch
    {
        "completed" => true,
        "failed" => throw new InvalidOperationException("QEMU driven bare has failed to migrate"),
        _ => false,
    };

    /// <summary>One QEMU. Its monitor may answer later: under cpr-transfer it does not before it has its descriptors.</summary>
    private sealed class Started(ChildProcess process, string monitor) : IAsyncDisposable
    {
        private readonly Socket _socket = UnixSocket.Connect(monitor);
        private BareQmp? _qmp;

        public ChildProcess Process => process;

        public BareQmp Qmp => _qmp ?? throw new InvalidOperationException("the monitor has not answered yet");

        public void Connect() => _qmp = new BareQmp(_socket);

        public async ValueTask DisposeAsync()
        {
            process.Signal(9);
            await process.Exited;
            await process.DisposeAsync();
            _qmp?.Dispose();
            _socket.Dispose();
            File.Delete(monitor);
        }
    }
}
