using System.Buffers.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace CprSharp.Qmp.Protocol;

internal enum EnvelopeKind
{
    /// <summary>An object of another kind.</summary>
    Other,
    Greeting,
    Return,
    Error,
    Event,
}

/// <summary>Where the parts of a message from a VMM lie in its bytes; found in one pass, without building a document.</summary>
internal readonly record struct Envelope(EnvelopeKind Kind, Range Value, Range? Id, Range? Data, Range? Timestamp)
{
    internal static readonly JsonReaderOptions ReaderOptions = new() { MaxDepth = JsonFramer.MaxDepth };

    /// <summary>The id as the number that this library's client uses, or null.</summary>
    public static long? NumericId(ReadOnlySpan<byte> id) =>
        Utf8Parser.TryParse(id, out long number, out var used) && used == id.Length ? number : null;

    public static bool TryParse(ReadOnlySpan<byte> json, out Envelope envelope, out string? problem)
    {
        envelope = default;
        problem = null;
        if (!Utf8.IsValid(json))
        {
            problem = "invalid UTF-8";
            return false;
        }

        try
        {
            var reader = new Utf8JsonReader(json, ReaderOptions);
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                problem = "not an object";
                return false;
            }

            envelope = ReadMembers(ref reader);
            reader.Read();
            return true;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException) // the latter: a name with half a surrogate pair
        {
            problem = e.Message;
            return false;
        }
    }

    private static Envelope ReadMembers(ref Utf8JsonReader reader)
    {
        var kind = EnvelopeKind.Other;
        Range value = default;
        Range? id = null, data = null, timestamp = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var member = Classify(in reader);
            reader.Read();
            var start = (int)reader.TokenStartIndex;
            reader.Skip();
            var range = new Range(start, (int)reader.BytesConsumed);
            switch (member)
            {
                case Member.Id: id = range; break;
                case Member.Data: data = range; break;
                case Member.Timestamp: timestamp = range; break;
                case Member.Return: (kind, value) = (EnvelopeKind.Return, range); break;
                case Member.Error: (kind, value) = (EnvelopeKind.Error, range); break;
                case Member.Event: (kind, value) = (EnvelopeKind.Event, range); break;
                case Member.Greeting: (kind, value) = (EnvelopeKind.Greeting, range); break;
            }
        }

        return new Envelope(kind, value, id, data, timestamp);
    }

    private static Member Classify(in Utf8JsonReader reader) =>
        reader.ValueTextEquals("id"u8) ? Member.Id
        : reader.ValueTextEquals("return"u8) ? Member.Return
        : reader.ValueTextEquals("error"u8) ? Member.Error
        : reader.ValueTextEquals("event"u8) ? Member.Event
        : reader.ValueTextEquals("data"u8) ? Member.Data
        : reader.ValueTextEquals("timestamp"u8) ? Member.Timestamp
        : reader.ValueTextEquals("QMP"u8) ? Member.Greeting
        : Member.Unknown;

    private enum Member
    {
        Unknown,
        Id,
        Return,
        Error,
        Event,
        Data,
        Timestamp,
        Greeting,
    }
}
