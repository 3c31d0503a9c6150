using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.CommandLine;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

/// <summary>The descriptors of a spec, opened as the supervisor would.</summary>
internal sealed partial class HeldDescriptors : IDisposable
{
    private const int F_DUPFD = 0;
    private readonly List<IDisposable> _owned = [];
    private readonly List<int> _duplicates = [];

    public HeldDescriptors(VmSpec spec)
    {
        foreach (HeldDescriptor descriptor in spec.Descriptors)
        {
            SafeHandle handle = descriptor switch
            {
                GuestRamDescriptor ram => Own(Memory(ram.Size)),
                ListenerDescriptor listener => Own(Listen(listener.Address)).SafeHandle,
                ConsoleDescriptor console => Own(Listen(console.Address)).SafeHandle,
                _ => throw new NotSupportedException(descriptor.ToString()),
            };
            // Without close-on-exec, at a number that nothing of the test's own has.
            int duplicate = fcntl((int)handle.DangerousGetHandle(), F_DUPFD, 500);
            if (duplicate < 0)
                throw new IOException($"fcntl: errno {Marshal.GetLastPInvokeError()}");
            _duplicates.Add(duplicate);
            Redirections += $" {descriptor.Number}<&{duplicate}";
        }
    }

    /// <summary>What a shell has to do to have them at their numbers.</summary>
    public string Redirections { get; } = "";

    public void Dispose()
    {
        foreach (int duplicate in _duplicates)
            close(duplicate);
        foreach (IDisposable owned in _owned)
            owned.Dispose();
    }

    private T Own<T>(T resource)
        where T : IDisposable
    {
        _owned.Add(resource);
        return resource;
    }

    private static Microsoft.Win32.SafeHandles.SafeFileHandle Memory(long size)
    {
        string path = Path.Combine("/dev/shm", Path.GetRandomFileName());
        var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
        File.Delete(path);
        RandomAccess.SetLength(file, size);
        return file;
    }

    private static Socket Listen(EndpointAddress address)
    {
        var socket = new Socket(address is UnixAddress ? AddressFamily.Unix : AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(address switch
        {
            UnixAddress unix => new UnixDomainSocketEndPoint(unix.Path),
            TcpAddress tcp => new IPEndPoint(IPAddress.Loopback, int.Parse(tcp.Port)),
            _ => throw new NotSupportedException(address.ToString()),
        });
        socket.Listen(4);
        return socket;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(int fd, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int close(int fd);
}

/// <summary>A QEMU of this machine, paused, that is spoken to over QMP.</summary>
internal sealed class RealQemu : IAsyncDisposable
{
    private readonly Process _process;
    private readonly Task<string> _errors;
    private readonly StreamReader _reader;
    private readonly StreamWriter _writer;

    private RealQemu(Process process, Task<string> errors, StreamReader reader, StreamWriter writer)
    {
        _process = process;
        _errors = errors;
        _reader = reader;
        _writer = writer;
    }

    public static async Task<RealQemu> StartAsync(IEnumerable<string> arguments, string redirections, string directory, CancellationToken ct)
    {
        // QEMU connects to the test, so that nothing need be polled.
        string path = Path.Combine(directory, Path.GetRandomFileName());
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        var start = new ProcessStartInfo("bash") { RedirectStandardError = true, RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (string argument in (string[])["-c", $"exec \"$@\"{redirections}", "bash", "qemu-system-x86_64", .. arguments, "-S", "-qmp", $"unix:{path}"])
            start.ArgumentList.Add(argument);
        Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync(ct);
        Task<Socket> connected = listener.AcceptAsync(ct).AsTask();
        if (await Task.WhenAny(connected, errors) == errors)
            throw new InvalidOperationException($"QEMU refused {string.Join(' ', arguments)}: {await errors}");
        var stream = new NetworkStream(await connected, ownsSocket: true);
        var qemu = new RealQemu(process, errors, new StreamReader(stream), new StreamWriter(stream) { AutoFlush = true });
        await qemu._reader.ReadLineAsync(ct);
        await qemu.ExecuteAsync("qmp_capabilities", new JsonObject(), ct);
        return qemu;
    }

    public async Task<JsonNode?> ExecuteAsync(string command, JsonObject arguments, CancellationToken ct)
    {
        await _writer.WriteLineAsync(new JsonObject { ["execute"] = command, ["arguments"] = arguments }.ToJsonString().AsMemory(), ct);
        while (await _reader.ReadLineAsync(ct) is { } line)
        {
            JsonNode answer = JsonNode.Parse(line)!;
            if (answer["error"] is { } error)
                throw new InvalidOperationException($"{command}: {error.ToJsonString()}");
            if (answer.AsObject().ContainsKey("return"))
                return answer["return"];
        }
        throw new InvalidOperationException($"{command}: QEMU ended: {await _errors}");
    }

    public async Task<string> HumanAsync(string command, CancellationToken ct) =>
        (string?)await ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = command }, ct) ?? "";

    public async Task<string> StatusAsync(CancellationToken ct) => (string?)(await ExecuteAsync("query-status", [], ct))?["status"] ?? "";

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            _process.Kill();
        await _process.WaitForExitAsync();
        _reader.Dispose();
        _process.Dispose();
    }

    public static async Task<BinaryFacts> FactsAsync(string machine, string directory, CancellationToken ct)
    {
        await using RealQemu qemu = await StartAsync(["-machine", "none", "-nodefaults", "-display", "none"], "", directory, ct);
        JsonNode version = (await qemu.ExecuteAsync("query-version", [], ct))!["qemu"]!;
        JsonArray machines = (await qemu.ExecuteAsync("query-machines", [], ct))!.AsArray();
        string canonical = (string?)machines.FirstOrDefault(m => (string?)m!["alias"] == machine)?["name"] ?? machine;
        // What the translation asks for is of the abstract type already; asked about microvm-machine, QEMU 7.2 aborts.
        JsonArray properties = (await qemu.ExecuteAsync("qom-list-properties", new JsonObject { ["typename"] = "machine" }, ct))!.AsArray();
        return new BinaryFacts
        {
            Version = new Version((int)version["major"]!, (int)version["minor"]!, (int)version["micro"]!),
            MachineAliases = machines.Where(static m => m!["alias"] is not null).ToDictionary(static m => (string)m!["alias"]!, static m => (string)m!["name"]!, StringComparer.Ordinal),
            DefaultMachine = (string?)machines.FirstOrDefault(static m => (bool?)m!["is-default"] == true)?["name"],
            MachineProperties = properties.Select(static p => (string)p!["name"]!).ToHashSet(StringComparer.Ordinal),
            DefaultRamId = (string?)machines.First(m => (string?)m!["name"] == canonical)!["default-ram-id"],
            Displays = new HashSet<string>(StringComparer.Ordinal) { "none", "curses" },
        };
    }
}
