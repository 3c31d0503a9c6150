using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp;

/// <summary>The answer to a command, as bytes and on demand as values; what a proxy passes on.</summary>
public sealed class QmpReply
{
    private readonly Envelope _envelope;

    internal QmpReply(ReadOnlyMemory<byte> rawUtf8, Envelope envelope)
    {
        RawUtf8 = rawUtf8;
        _envelope = envelope;
    }

    /// <summary>A success with this value, as a server's handler returns it.</summary>
    /// <param name="value">The value; an undefined element means the empty object that QMP prescribes for "no data".</param>
    public static QmpReply Success(JsonElement value) => FromOwnText(MessageText.Success(value));

    /// <inheritdoc cref="Success(JsonElement)"/>
    public static QmpReply Success(JsonNode value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return Success(MessageText.ToElement(value));
    }

    /// <summary>A success without data.</summary>
    public static QmpReply Success() => Success(default(JsonElement));

    /// <summary>An error, as a server's handler returns it.</summary>
    /// <param name="errorClass">See <see cref="QmpErrorClass"/>.</param>
    /// <param name="description">Text for people.</param>
    public static QmpReply Error(string errorClass, string description) => FromOwnText(MessageText.Error(errorClass, description));

    /// <summary>Reads a reply message.</summary>
    /// <param name="utf8">One JSON object with <c>return</c> or <c>error</c>; kept, not copied.</param>
    /// <exception cref="FormatException">It is not a reply.</exception>
    public static QmpReply Parse(ReadOnlyMemory<byte> utf8) =>
        Envelope.TryParse(utf8.Span, out var envelope, out var problem) && envelope.Kind is EnvelopeKind.Return or EnvelopeKind.Error
            ? new QmpReply(utf8, envelope)
            : throw new FormatException($"Not a QMP reply: {problem ?? "it has neither 'return' nor 'error'"}.");

    /// <summary>The whole reply as one line of JSON without line end. Its <c>id</c> is the one this library chose, see <see cref="WithId"/>.</summary>
    public ReadOnlyMemory<byte> RawUtf8 { get; }

    /// <summary>Whether the VMM answered with an error.</summary>
    public bool IsError => _envelope.Kind == EnvelopeKind.Error;

    /// <summary>The error's class, or null for a success.</summary>
    public string? ErrorClass => IsError ? ErrorMember("class") ?? QmpErrorClass.GenericError : null;

    /// <summary>The error's text, or null for a success.</summary>
    public string? ErrorDescription => IsError ? ErrorMember("desc") ?? "(no description)" : null;

    /// <summary>The returned value; parsed anew at each call.</summary>
    /// <exception cref="InvalidOperationException">The reply is an error.</exception>
    public JsonElement ReturnValue() => IsError
        ? throw new InvalidOperationException("The reply is an error and has no return value.")
        : ParseValue();

    /// <summary>The reply with another id, every other byte unchanged.</summary>
    /// <param name="id">The id as JSON text; empty removes the member, for a command that had none.</param>
    public byte[] WithId(ReadOnlySpan<byte> id) => JsonSplice.WithId(RawUtf8.Span, id);

    internal JsonElement ReturnValueOrThrow(string command) =>
        IsError ? throw new QmpException(command, ErrorClass!, ErrorDescription!) : ParseValue();

    private static QmpReply FromOwnText(byte[] text) => Parse(text);

    private JsonElement ParseValue() => MessageText.ParseElement(RawUtf8.Span[_envelope.Value]);

    private string? ErrorMember(string name) =>
        ParseValue() is { ValueKind: JsonValueKind.Object } error && error.TryGetProperty(name, out var member)
        && member.ValueKind == JsonValueKind.String ? member.GetString() : null;
}
