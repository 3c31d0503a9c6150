using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace CprSharp.SystemTests.Harness;

/// <summary>A client that stays connected: it sends a numbered stream to whoever sends it back, and compares every byte.</summary>
internal sealed class EchoStream : IAsyncDisposable
{
    private const int LineLength = 8;
    private readonly Stream _input;
    private readonly Stream _output;
    private readonly int _window;
    private readonly CancellationTokenSource _enough = new();
    private readonly SemaphoreSlim _room = new(0);
    private readonly Task _sending;
    private readonly Task _receiving;
    private long _sent;
    private long _received;

    /// <param name="name">For messages.</param>
    /// <param name="input">Where it comes back; owned from here on.</param>
    /// <param name="output">Where it is sent; owned from here on.</param>
    /// <param name="window">How many bytes may be under way: what the guest's kernel surely keeps.</param>
    public EchoStream(string name, Stream input, Stream output, int window)
    {
        Name = name;
        (_input, _output) = (input, output);
        _window = window;
        _sending = Task.Run(SendAsync);
        _receiving = Task.Run(ReceiveAsync);
    }

    public EchoStream(string name, Socket socket, int window)
        : this(name, new NetworkStream(socket, ownsSocket: false), new NetworkStream(socket, ownsSocket: true), window)
    {
    }

    /// <summary>A terminal, opened twice: its file streams do one thing at a time.</summary>
    public static EchoStream Terminal(string name, string path, int window) => new(
        name, new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0), new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0), window);

    public string Name { get; }

    public long Received => Interlocked.Read(ref _received);

    /// <summary>It goes on: so many more bytes come back.</summary>
    public async Task ExpectMoreAsync(int bytes)
    {
        var target = Received + bytes;
        if (_sending.IsFaulted)
            await _sending;
        await Deadlines.EventuallyAsync(() => Received >= target || _receiving.IsCompleted ? null : State("is silent"), Deadlines.Guest);
        if (_receiving.IsFaulted)
            await _receiving;
        Assert.False(_receiving.IsCompleted, State("was closed"));
    }

    /// <summary>Sends no more, and expects that everything that was sent has come back: nothing less, nothing more.</summary>
    public async Task ExpectAllBackAsync()
    {
        await _enough.CancelAsync();
        await _sending;
        await Deadlines.EventuallyAsync(() => Received >= _sent || _receiving.IsCompleted ? null : State("is silent"), Deadlines.Guest);
        await ((Task)_receiving.WaitAsync(TimeSpan.FromMilliseconds(300))).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_receiving.IsFaulted)
            await _receiving;
        Assert.True(Received == _sent && !_receiving.IsCompleted, State("has lost bytes"));
    }

    public async ValueTask DisposeAsync()
    {
        await _enough.CancelAsync();
        await _output.DisposeAsync();
        await _input.DisposeAsync();

        // A read of a terminal is not ended by closing it.
        await Task.WhenAll(_sending, _receiving).WaitAsync(TimeSpan.FromSeconds(5)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _room.Dispose();
        _enough.Dispose();
    }

    private static byte At(long position) =>
        (byte)((position / LineLength).ToString("D7", CultureInfo.InvariantCulture) + "\n")[(int)(position % LineLength)];

    private string State(string what) => $"{Name} {what}: {_sent} bytes sent, {Received} came back";

    private async Task SendAsync()
    {
        var buffer = new byte[1024];
        try
        {
            while (!_enough.IsCancellationRequested)
            {
                var room = (int)Math.Min(buffer.Length, _window - (_sent - Received));
                if (room <= 0)
                {
                    await _room.WaitAsync(_enough.Token);
                    continue;
                }

                for (var i = 0; i < room; i++)
                    buffer[i] = At(_sent + i);
                await _output.WriteAsync(buffer.AsMemory(0, room), CancellationToken.None);
                _sent += room;
            }
        }
        catch (OperationCanceledException)
        {
        }
    }

    private async Task ReceiveAsync()
    {
        var buffer = new byte[4096];
        while (true)
        {
            var count = await _input.ReadAsync(buffer);
            if (count == 0)
                return;
            for (var i = 0; i < count; i++)
            {
                if (buffer[i] != At(_received + i))
                    Assert.Fail($"{Name}: byte {_received + i} is wrong; came:\n{Encoding.ASCII.GetString(buffer, 0, count)}\ninstead of:\n{string.Concat(Enumerable.Range(0, count).Select(k => (char)At(_received + k)))}");
            }

            Interlocked.Add(ref _received, count);
            if (_room.CurrentCount == 0)
                _room.Release();
        }
    }
}
