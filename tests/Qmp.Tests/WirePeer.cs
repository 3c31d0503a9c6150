using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using CprSharp.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Qmp.Tests;

/// <summary>One end of a connection that speaks bytes: whatever a test wants to send, lines as they arrive.</summary>
/// <remarks>Line framing is enough here, and shares no code with what is tested.</remarks>
internal sealed class WirePeer(Socket socket) : IDisposable
{
    private readonly List<byte> _read = [];

    public Socket Socket => socket;

    public List<SafeFileHandle> Descriptors { get; } = [];

    public Task SendAsync(string text) => SendAsync(Encoding.UTF8.GetBytes(text));

    public async Task SendAsync(byte[] bytes)
    {
        for (var sent = 0; sent < bytes.Length;) sent += await socket.SendAsync(bytes.AsMemory(sent)).AsTask().Soon();
    }

    /// <summary>Every byte in a send of its own.</summary>
    public async Task SendOneByOneAsync(string text)
    {
        foreach (var value in Encoding.UTF8.GetBytes(text)) await SendAsync([value]);
    }

    public void SendWithDescriptors(string text, params SafeHandle[] descriptors) =>
        Assert.Equal(Encoding.UTF8.GetByteCount(text), ScmRights.Send(socket.SafeHandle, Encoding.UTF8.GetBytes(text), descriptors));

    public void FinishSending() => socket.Shutdown(SocketShutdown.Send);

    /// <summary>The next line, or null at the end of the stream.</summary>
    public async Task<string?> ReadLineAsync()
    {
        var buffer = new byte[65536];
        int end;
        while ((end = _read.IndexOf((byte)'\n')) < 0)
        {
            var received = ScmRights.Receive(socket.SafeHandle, buffer, Descriptors, out _);
            if (received == 0) return _read.Count == 0 ? null : throw new InvalidOperationException("The stream ended inside a line.");
            if (received > 0) _read.AddRange(buffer.AsSpan(0, received));
            else await socket.ReceiveAsync(Memory<byte>.Empty).AsTask().Soon();
        }

        var line = Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(_read)[..end]);
        _read.RemoveRange(0, end + 1);
        Assert.EndsWith("\r", line, StringComparison.Ordinal);
        return line[..^1];
    }

    /// <summary>The next line as JSON.</summary>
    public async Task<JsonElement> ReadAsync() =>
        JsonElement.Parse(await ReadLineAsync() ?? throw new InvalidOperationException("The stream ended."));

    /// <summary>Whether nothing arrives for a moment; can only err towards yes.</summary>
    public async Task<bool> IsSilentAsync()
    {
        using var moment = new CancellationTokenSource(TimeSpan.FromMilliseconds(100));
        try
        {
            // Readiness may be told once more for bytes that are gone.
            while (_read.Count == 0 && socket.Available == 0) await socket.ReceiveAsync(Memory<byte>.Empty, moment.Token);
            return false;
        }
        catch (OperationCanceledException)
        {
            return true;
        }
    }

    public void Dispose()
    {
        Descriptors.ForEach(d => d.Dispose());
        socket.Dispose();
    }
}
