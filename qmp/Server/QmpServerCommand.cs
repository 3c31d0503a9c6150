using System.Text.Json;
using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp;

/// <summary>Executes a command for a client.</summary>
/// <param name="command">The command. Its descriptors are closed when the handler has returned, unless claimed.</param>
/// <param name="ct">Signalled when the connection broke or the server stops; not when the client merely closed its side.</param>
/// <returns>The reply; its id is set by the server.</returns>
/// <exception cref="QmpException">Sent to the client as this error. Any other exception becomes a GenericError.</exception>
public delegate ValueTask<QmpReply> QmpCommandHandler(QmpServerCommand command, CancellationToken ct);

/// <summary>A command that a client sent, well-formed and after negotiation.</summary>
public sealed class QmpServerCommand
{
    private readonly Request _request;

    internal QmpServerCommand(QmpServerConnection connection, ReadOnlyMemory<byte> rawUtf8, Request request, QmpDescriptors descriptors)
    {
        Connection = connection;
        RawUtf8 = rawUtf8;
        _request = request;
        Descriptors = descriptors;
    }

    /// <summary>Where it came from.</summary>
    public QmpServerConnection Connection { get; }

    /// <summary>The command's name.</summary>
    public string Name => _request.Name!;

    /// <summary>Whether it was sent with <c>exec-oob</c>, and so runs beside the in-band commands.</summary>
    public bool OutOfBand => _request.IsOutOfBand;

    /// <summary>The arguments, an empty object when there are none; parsed anew at each call.</summary>
    public JsonElement Arguments() => _request.Arguments is { } range ? MessageText.ParseElement(RawUtf8.Span[range]) : MessageText.EmptyObject;

    /// <summary>The client's id as JSON text; empty when it sent none.</summary>
    public ReadOnlyMemory<byte> RawId => _request.Id is { } range ? RawUtf8[range] : default;

    /// <summary>
    /// The whole command as one line of plain JSON, ready for <see cref="QmpClient.ExecuteRawAsync"/>. QEMU's own extensions
    /// (line ends inside, single-quoted strings) are rewritten; everything else is as the client sent it.
    /// </summary>
    public ReadOnlyMemory<byte> RawUtf8 { get; }

    /// <summary>The descriptors that came with it.</summary>
    public QmpDescriptors Descriptors { get; }
}
