using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace CprSharp.Bench.Subjects;

/// <summary>The least that speaks QMP: a blocking socket, lines, and nothing between them and the caller.</summary>
internal sealed class BareQmp : IDisposable
{
    private readonly Socket _socket;
    private readonly byte[] _buffer = new byte[1 << 20];
    private readonly List<JsonElement> _events = [];
    private int _start;
    private int _end;

    public BareQmp(Socket connected)
    {
        _socket = connected;
        _socket.ReceiveTimeout = 15_000;
        ReadLine();
        Execute("""{"execute":"qmp_capabilities"}""");
    }

    public static BareQmp Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return new BareQmp(socket);
    }

    public void Send(ReadOnlySpan<byte> command)
    {
        while (!command.IsEmpty)
            command = command[_socket.Send(command)..];
    }

    /// <summary>The next line, without looking into it. Valid until the next one is read.</summary>
    public ReadOnlyMemory<byte> ReadLine()
    {
        var searched = _start;
        while (true)
        {
            var found = _buffer.AsSpan(searched.._end).IndexOf((byte)'\n');
            if (found >= 0)
            {
                var line = _buffer.AsMemory(_start..(searched + found));
                _start = searched + found + 1;
                return line;
            }

            searched = _end;
            if (_start > 0)
            {
                _buffer.AsSpan(_start.._end).CopyTo(_buffer);
                (_end, searched, _start) = (_end - _start, searched - _start, 0);
            }

            var read = _socket.Receive(_buffer.AsSpan(_end));
            if (read == 0)
                throw new IOException("the QMP connection has ended");
            _end += read;
        }
    }

    public JsonElement Execute(string command)
    {
        Send(Encoding.UTF8.GetBytes(command + "\n"));
        while (true)
        {
            var message = ReadMessage();
            if (message.TryGetProperty("event", out _))
                _events.Add(message);
            else if (message.TryGetProperty("return", out var answer))
                return answer;
            else
                throw new InvalidOperationException($"{command}: {message}");
        }
    }

    /// <summary>The first event of this name, of those not yet taken, that the condition holds for.</summary>
    public JsonElement WaitFor(string name, Func<JsonElement, bool>? condition = null)
    {
        for (var i = 0; ; i++)
        {
            if (i == _events.Count)
            {
                var message = ReadMessage();
                if (!message.TryGetProperty("event", out _))
                    continue;
                _events.Add(message);
            }

            var candidate = _events[i];
            if (candidate.GetProperty("event").GetString() != name || condition?.Invoke(candidate) == false)
                continue;
            _events.RemoveAt(i);
            return candidate;
        }
    }

    /// <summary>When QEMU says that it happened, in milliseconds.</summary>
    public static double Time(JsonElement happened)
    {
        var stamp = happened.GetProperty("timestamp");
        return stamp.GetProperty("seconds").GetInt64() * 1000.0 + stamp.GetProperty("microseconds").GetInt64() / 1000.0;
    }

    public void Dispose() => _socket.Dispose();

    private JsonElement ReadMessage()
    {
        using var document = JsonDocument.Parse(ReadLine());
        return document.RootElement.Clone();
    }
}
