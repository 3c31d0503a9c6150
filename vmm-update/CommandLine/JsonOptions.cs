using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>JSON option arguments addressed by the dotted keys of the keyval form.</summary>
internal static class JsonOptions
{
    private static readonly JsonWriterOptions Writing = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <exception cref="FormatException">Not one JSON object.</exception>
    public static JsonObject Parse(string text)
    {
        try
        {
            var node = JsonNode.Parse(WithDoubleQuotes(text), documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false });
            return node as JsonObject ?? throw new FormatException("the JSON is not an object");
        }
        catch (JsonException e)
        {
            throw new FormatException($"the JSON is malformed: {e.Message}", e);
        }
    }

    public static string Render(JsonNode node)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(buffer, Writing))
            node.WriteTo(writer);
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    public static IEnumerable<KeyValuePair<string, string>> Flatten(JsonNode node, string prefix = "")
    {
        switch (node)
        {
            case JsonObject children:
                return children.Where(static child => child.Value is not null)
                    .SelectMany(child => Flatten(child.Value!, prefix.Length == 0 ? child.Key : $"{prefix}.{child.Key}"));
            case JsonArray elements:
                return elements.SelectMany((element, i) => element is null ? [] : Flatten(element, $"{prefix}.{QemuText.Number(i)}"));
            default:
                return [KeyValuePair.Create(prefix, Text((JsonValue)node))];
        }
    }

    public static bool IsElementOf(string key, string list) =>
        key.Length > list.Length + 1 && key.Begins(list) && key[list.Length] == '.' && char.IsAsciiDigit(key[list.Length + 1]);

    public static string? Get(JsonObject root, string key) => Find(root, key) is JsonValue value ? Text(value) : null;

    public static void Set(JsonObject root, string key, JsonNode? value)
    {
        JsonObject parent = root;
        string name = key;
        while (!parent.ContainsKey(name) && name.IndexOf('.', StringComparison.Ordinal) is > 0 and var dot)
        {
            string step = name[..dot];
            if (parent[step] is not JsonObject child)
                parent[step] = child = [];
            parent = child;
            name = name[(dot + 1)..];
        }
        parent[name] = value;
    }

    public static void Remove(JsonObject root, string key)
    {
        if (root.Remove(key))
            return;
        int dot = key.IndexOf('.', StringComparison.Ordinal);
        if (dot > 0 && root[key[..dot]] is JsonObject child)
            Remove(child, key[(dot + 1)..]);
    }

    private static JsonNode? Find(JsonNode? node, string key)
    {
        if (node is JsonObject { } children && children.TryGetPropertyValue(key, out JsonNode? found))
            return found;
        int dot = key.IndexOf('.', StringComparison.Ordinal);
        if (dot < 0)
            return node is JsonArray last && QemuText.TryNumber(key, out int end) && end < last.Count ? last[end] : null;
        string step = key[..dot];
        JsonNode? child = node switch
        {
            JsonObject o when o.TryGetPropertyValue(step, out JsonNode? member) => member,
            JsonArray a when QemuText.TryNumber(step, out int i) && i < a.Count => a[i],
            _ => null,
        };
        return child is null ? null : Find(child, key[(dot + 1)..]);
    }

    private static string Text(JsonValue value) => value.GetValueKind() switch
    {
        JsonValueKind.True => "on",
        JsonValueKind.False => "off",
        JsonValueKind.String => value.GetValue<string>(),
        _ => value.ToJsonString(),
    };

    /// <summary>QEMU's JSON also takes strings in single quotes.</summary>
    private static string WithDoubleQuotes(string text)
    {
        if (!text.Contains('\'', StringComparison.Ordinal))
            return text;
        var result = new StringBuilder(text.Length);
        char quote = '\0';
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (quote != '\0' && c == '\\' && i + 1 < text.Length)
            {
                i++;
                if (text[i] == '\'')
                    result.Append('\'');
                else
                    result.Append(c).Append(text[i]);
            }
            else if (c is '"' or '\'' && (quote == '\0' || quote == c))
            {
                quote = quote == '\0' ? c : '\0';
                result.Append('"');
            }
            else if (c == '"')
            {
                result.Append("\\\"");
            }
            else
            {
                result.Append(c);
            }
        }
        return result.ToString();
    }
}
