using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace CprSharp.SystemTests.Harness;

/// <summary>A network of a test's own, so that nothing of the machine's is touched. Needs root.</summary>
internal sealed partial class NetworkNamespace : IAsyncDisposable
{
    private const int NewNetwork = 0x40000000; // CLONE_NEWNET

    private NetworkNamespace(string name) => Name = name;

    public string Name { get; }

    public static async Task<NetworkNamespace> CreateAsync(string name)
    {
        await IpAsync("netns", "add", name);
        var made = new NetworkNamespace(name);
        await made.RunAsync("ip", "link", "set", "lo", "up");
        return made;
    }

    /// <summary>The command, and what puts it there.</summary>
    public string[] Inside(params string[] command) => ["netns", "exec", Name, .. command];

    public async Task RunAsync(params string[] command) => await IpAsync(Inside(command));

    /// <summary>Makes a socket there; it can be used from anywhere.</summary>
    public Socket Open(Func<Socket> open)
    {
        Socket? made = null;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                using var there = File.OpenHandle($"/run/netns/{Name}");
                if (setns(there, NewNetwork) != 0)
                    throw new IOException($"setns: {Marshal.GetLastPInvokeErrorMessage()}");
                made = open();
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        return made ?? throw new IOException(failure!.Message, failure);
    }

    public Socket Connect(string address, int port) => Open(() =>
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(IPAddress.Parse(address), port);
        return socket;
    });

    public async ValueTask DisposeAsync() => await IpAsync("netns", "del", Name);

    private static async Task IpAsync(params string[] arguments)
    {
        using var ip = Process.Start(new ProcessStartInfo("ip", arguments) { RedirectStandardError = true })!;
        var errors = await ip.StandardError.ReadToEndAsync();
        await ip.WaitForExitAsync();
        Assert.True(ip.ExitCode == 0, $"ip {string.Join(' ', arguments)}: {errors}");
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(SafeHandle descriptor, int type);
}

/// <summary>Pings in quick succession, and counts.</summary>
internal sealed class PingFlood : IAsyncDisposable
{
    private const int Every = 5;
    private readonly Socket _socket;
    private readonly EndPoint _to;
    private readonly CancellationTokenSource _enough = new();
    private readonly long[] _sentAt = new long[65536];
    private readonly HashSet<int> _answered = [];
    private readonly Task _sending;
    private readonly Task _receiving;
    private int _sent;
    private double _longest;

    public PingFlood(NetworkNamespace network, string address)
    {
        _to = new IPEndPoint(IPAddress.Parse(address), 0);
        _socket = network.Open(() => new Socket(AddressFamily.InterNetwork, SocketType.Raw, ProtocolType.Icmp) { ReceiveBufferSize = 1 << 20 });
        _socket.Bind(new IPEndPoint(IPAddress.Any, 0));
        _sending = Task.Run(SendAsync);
        _receiving = Task.Run(ReceiveAsync);
    }

    /// <summary>Milliseconds that the slowest answer took.</summary>
    public double Longest => Volatile.Read(ref _longest);

    /// <summary>Stops, waits for the last answers, and says how many were sent and answered.</summary>
    public async Task<(int Sent, int Answered)> StopAsync()
    {
        await _enough.CancelAsync();
        await _sending;
        await ((Task)_receiving.WaitAsync(TimeSpan.FromSeconds(3))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        lock (_answered)
            return (_sent, _answered.Count);
    }

    public async ValueTask DisposeAsync()
    {
        await _enough.CancelAsync();
        _socket.Dispose();
        await Task.WhenAll(_sending, _receiving).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _enough.Dispose();
    }

    private async Task SendAsync()
    {
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(Every));
        try
        {
            while (await timer.WaitForNextTickAsync(_enough.Token))
            {
                var packet = new byte[64];
                packet[0] = 8; // echo request
                packet[4] = 0x43;
                (packet[6], packet[7]) = ((byte)(_sent >> 8), (byte)_sent);
                var sum = 0;
                for (var i = 0; i < packet.Length; i += 2)
                    sum += (packet[i] << 8) | packet[i + 1];
                sum = (sum >> 16) + (sum & 0xffff);
                sum = ~(sum + (sum >> 16));
                (packet[2], packet[3]) = ((byte)(sum >> 8), (byte)sum);
                _sentAt[_sent] = Stopwatch.GetTimestamp();
                await _socket.SendToAsync(packet, _to);
                _sent++;
            }
        }
        catch (OperationCanceledException)
        {
        }
    }

    private async Task ReceiveAsync()
    {
        var buffer = new byte[1500];
        while (true)
        {
            var count = await _socket.ReceiveAsync(buffer);
            var header = (buffer[0] & 15) * 4;
            if (count < header + 8 || buffer[header] != 0 || buffer[header + 4] != 0x43)
                continue;
            var number = (buffer[header + 6] << 8) | buffer[header + 7];
            var took = Stopwatch.GetElapsedTime(_sentAt[number]).TotalMilliseconds;
            lock (_answered)
                _answered.Add(number);
            if (took > _longest)
                _longest = took;
        }
    }
}
