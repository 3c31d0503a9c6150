using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.Qmp.Protocol;

/// <summary>Writes messages, and reads the values in them. Output is ASCII, as the specification has it for servers.</summary>
internal static class MessageText
{
    public static readonly JsonElement EmptyObject = JsonElement.Parse("{}"u8);

    private static readonly JsonWriterOptions s_writerOptions = new() { SkipValidation = true, MaxDepth = JsonFramer.MaxDepth };
    private static readonly JsonDocumentOptions s_documentOptions = new() { MaxDepth = JsonFramer.MaxDepth };

    public static JsonElement ParseElement(ReadOnlySpan<byte> json) => JsonElement.Parse(json, s_documentOptions);

    public static JsonElement ToElement(JsonNode node)
    {
        var output = new ArrayBufferWriter<byte>(256);
        using (var writer = new Utf8JsonWriter(output, s_writerOptions)) node.WriteTo(writer);
        return ParseElement(output.WrittenSpan);
    }

    public static byte[] Number(long number) => Encoding.ASCII.GetBytes(number.ToString(CultureInfo.InvariantCulture));

    public static byte[] Command(string name, JsonObject? arguments, bool outOfBand, long id) => Write(w =>
    {
        w.WriteString(outOfBand ? "exec-oob"u8 : "execute"u8, name);
        if (arguments is not null)
        {
            w.WritePropertyName("arguments"u8);
            arguments.WriteTo(w);
        }

        w.WriteNumber("id"u8, id);
    });

    public static byte[] Success(JsonElement value) => Write(w =>
    {
        w.WritePropertyName("return"u8);
        WriteValue(w, value);
    });

    public static byte[] Error(string errorClass, string description) => Write(w =>
    {
        w.WriteStartObject("error"u8);
        w.WriteString("class"u8, errorClass);
        w.WriteString("desc"u8, description);
        w.WriteEndObject();
    });

    public static byte[] Event(string name, JsonElement data, long timestampMicroseconds) => Write(w =>
    {
        var (seconds, microseconds) = timestampMicroseconds < 0 ? (-1, -1) : Math.DivRem(timestampMicroseconds, 1_000_000);
        w.WriteStartObject("timestamp"u8);
        w.WriteNumber("seconds"u8, seconds);
        w.WriteNumber("microseconds"u8, microseconds);
        w.WriteEndObject();
        w.WriteString("event"u8, name);
        if (data.ValueKind == JsonValueKind.Object && data.EnumerateObject().MoveNext())
        {
            w.WritePropertyName("data"u8);
            data.WriteTo(w);
        }
    });

    public static byte[] Greeting(QmpGreeting greeting) => Write(w =>
    {
        w.WriteStartObject("QMP"u8);
        w.WriteStartObject("version"u8);
        w.WriteStartObject("qemu"u8);
        w.WriteNumber("micro"u8, greeting.Micro);
        w.WriteNumber("minor"u8, greeting.Minor);
        w.WriteNumber("major"u8, greeting.Major);
        w.WriteEndObject();
        w.WriteString("package"u8, greeting.Package);
        w.WriteEndObject();
        w.WriteStartArray("capabilities"u8);
        foreach (var capability in greeting.Capabilities) w.WriteStringValue(capability);
        w.WriteEndArray();
        w.WriteEndObject();
    });

    public static QmpEvent ToEvent(ReadOnlyMemory<byte> line, Envelope envelope, string name) =>
        new(name, envelope.Data is { } data ? ParseElement(line.Span[data]) : EmptyObject, Timestamp(line.Span, envelope)) { RawUtf8 = line };

    /// <summary>A JSON string's value, or null when the text is no string or not representable (half a surrogate pair).</summary>
    public static string? StringValue(ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json);
        try
        {
            return reader.Read() && reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    /// <summary>
    /// The message as an array of its own and as one line: JSON has line ends only between tokens, where a space says the same.
    /// </summary>
    public static byte[] ToSingleLine(ReadOnlySpan<byte> message)
    {
        var copy = message.ToArray();
        copy.AsSpan().Replace((byte)'\n', (byte)' ');
        copy.AsSpan().Replace((byte)'\r', (byte)' ');
        return copy;
    }

    /// <summary>QEMU also reads 'single-quoted' strings and the escape \'; this gives the same message as plain JSON.</summary>
    public static byte[] FromSingleQuotes(ReadOnlySpan<byte> message)
    {
        var output = new ArrayBufferWriter<byte>(message.Length + 16);
        byte quote = 0;
        for (var i = 0; i < message.Length; i++)
        {
            var c = message[i];
            if (quote != 0 && c == (byte)'\\' && i + 1 < message.Length)
            {
                var escaped = message[++i];
                if (escaped == (byte)'\'') output.Write("'"u8);
                else output.Write([c, escaped]);
            }
            else if (quote == 0 && c is (byte)'"' or (byte)'\'')
            {
                quote = c;
                output.Write("\""u8);
            }
            else if (quote != 0 && c == quote)
            {
                quote = 0;
                output.Write("\""u8);
            }
            else if (quote == (byte)'\'' && c == (byte)'"') output.Write("\\\""u8);
            else output.Write([c]);
        }

        return output.WrittenSpan.ToArray();
    }

    private static void WriteValue(Utf8JsonWriter writer, JsonElement value) =>
        (value.ValueKind == JsonValueKind.Undefined ? EmptyObject : value).WriteTo(writer);

    private static long Timestamp(ReadOnlySpan<byte> line, Envelope envelope)
    {
        if (envelope.Timestamp is not { } range) return -1;
        var element = ParseElement(line[range]);
        return element.ValueKind == JsonValueKind.Object
            && element.TryGetProperty("seconds", out var s) && s.ValueKind == JsonValueKind.Number && s.TryGetInt64(out var seconds)
            && element.TryGetProperty("microseconds", out var us) && us.ValueKind == JsonValueKind.Number && us.TryGetInt64(out var microseconds)
            && seconds is >= 0 and < long.MaxValue / 2_000_000 && microseconds is >= 0 and < 1_000_000
            ? (seconds * 1_000_000) + microseconds
            : -1;
    }

    private static byte[] Write(Action<Utf8JsonWriter> members)
    {
        var output = new ArrayBufferWriter<byte>(256);
        using (var writer = new Utf8JsonWriter(output, s_writerOptions))
        {
            writer.WriteStartObject();
            members(writer);
            writer.WriteEndObject();
        }

        return output.WrittenSpan.ToArray();
    }
}
