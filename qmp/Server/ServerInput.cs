using System.Net.Sockets;
using CprSharp.Interop;
using CprSharp.Qmp.Protocol;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Qmp.Server;

/// <summary>Reads a client's bytes and descriptors and turns them into <see cref="Incoming"/>.</summary>
internal sealed class ServerInput(Socket socket, QmpServerOptions options) : IDisposable
{
    private readonly MessageBuffer _buffer = new(options.MaxMessageBytes);
    private Parcel? _pending;

    /// <summary>Whether the stream, ending now, would end inside a message.</summary>
    public bool InMessage => _buffer.InMessage;

    /// <summary>Whether descriptors came for a message that is not complete.</summary>
    public bool HoldsDescriptors => _pending is not null;

    public QmpInputState Save() => _buffer.Save();

    public void Restore(QmpInputState state) => _buffer.Restore(state);

    /// <summary>What the next bytes contain, possibly nothing yet; null at the end of the stream. Cancelled, it has read nothing.</summary>
    public async ValueTask<List<Incoming>?> ReadAsync(CancellationToken ct)
    {
        while (true)
        {
            ct.ThrowIfCancellationRequested();
            var received = Receive(out var parcel);
            if (received == 0) return null;
            if (received > 0)
            {
                _buffer.Advance(received);
                return Parse(received, parcel);
            }

            await socket.ReceiveAsync(Memory<byte>.Empty, ct);
        }
    }

    public void Dispose()
    {
        _buffer.Dispose();
        _pending?.Dispose();
    }

    private int Receive(out Parcel? parcel)
    {
        var arrived = new List<SafeFileHandle>();
        try
        {
            var received = ScmRights.Receive(socket.SafeHandle, _buffer.FreeSpace().Span, arrived, out var lost);
            parcel = arrived.Count > 0 || lost ? new Parcel(arrived, lost) : null;
            return received;
        }
        catch
        {
            arrived.ForEach(d => d.Dispose());
            throw;
        }
    }

    /// <summary>
    /// A parcel goes to the message with whose bytes it came; one that came ahead of a message, or with its beginning, waits for it to
    /// complete. As in QEMU, a newer parcel replaces one that no message has got.
    /// </summary>
    private List<Incoming> Parse(int received, Parcel? arrived)
    {
        var tail = arrived is null ? [] : _buffer.Unread[^received..].ToArray();
        var parsed = new List<Incoming>();
        while (Next() is { } incoming) parsed.Add(incoming);

        var recipient = arrived is not null && parsed.Count > 0 && !_buffer.InMessage && !EndsBetweenMessages(tail) ? parsed[^1] : null;
        if (parsed.Count > 0 && recipient != parsed[0])
        {
            _pending?.GiveTo(parsed[0]);
            _pending = null;
        }

        if (arrived is null) return parsed;
        _pending?.Dispose();
        _pending = recipient is null ? arrived : null;
        if (recipient is not null) arrived.GiveTo(recipient);
        return parsed;
    }

    private Incoming? Next()
    {
        switch (_buffer.TryRead(out var message, out var singleQuotes))
        {
            case ReadOutcome.NeedMore:
                return null;
            case ReadOutcome.Oversize:
                return Incoming.Refused($"The message is longer than {options.MaxMessageBytes} bytes");
            case ReadOutcome.Malformed:
                return Incoming.Refused(_buffer.LastError switch
                {
                    FrameError.TooDeep => $"JSON nesting depth limit of {JsonFramer.MaxDepth} exceeded",
                    FrameError.ControlCharacter => "JSON parse error, stray control character",
                    _ => "JSON parse error, expecting an object",
                });
        }

        var line = MessageText.ToSingleLine(singleQuotes ? MessageText.FromSingleQuotes(message) : message);
        return Request.TryRead(line, out var request, out var problem)
            ? new Incoming(line, request, Refusal(request))
            : Incoming.Refused($"JSON parse error, {problem}");
    }

    private QmpReply? Refusal(Request request) =>
        request.Problem is { } problem ? QmpReply.Error(QmpErrorClass.GenericError, problem)
        : request.UnexpectedMember is { } member && !options.PassUnknownMembers
            ? QmpReply.Error(QmpErrorClass.GenericError, $"QMP input member '{member}' is unexpected")
        : null;

    /// <summary>
    /// The kernel ends a read behind the bytes that descriptors came with, so they belong to what is last in it. That is the last message
    /// with its line end, unless more white space follows: some clients send descriptors with a space ahead of the command.
    /// </summary>
    private static bool EndsBetweenMessages(ReadOnlySpan<byte> read)
    {
        var space = read[(read.LastIndexOfAnyExcept(" \t\r\n"u8) + 1)..];
        var lineEnd = space.IndexOf((byte)'\n');
        if (lineEnd >= 0 && space[..lineEnd].IndexOfAnyExcept((byte)'\r') < 0) space = space[(lineEnd + 1)..];
        return !space.IsEmpty;
    }

    /// <summary>The descriptors of one read.</summary>
    private sealed class Parcel(List<SafeFileHandle> descriptors, bool incomplete) : IDisposable
    {
        public void GiveTo(Incoming incoming)
        {
            incoming.Descriptors = new QmpDescriptors(descriptors);
            if (!incomplete) return;
            incoming.Answer ??= QmpReply.Error(QmpErrorClass.GenericError,
                "Descriptors sent with this command were lost: the server reached its limit of open files, or a security module refused");
        }

        public void Dispose() => descriptors.ForEach(d => d.Dispose());
    }
}
