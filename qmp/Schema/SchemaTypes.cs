using System.Text.Json;

namespace CprSharp.Qmp.Schema;

/// <summary>A member of an object type (qapi/introspect.json, SchemaInfoObjectMember).</summary>
internal sealed record SchemaMember(string Name, string Type, string[] Features);

/// <summary>A command or event: the names of the types that it takes and returns.</summary>
internal sealed record SchemaCallable(string? Arguments, string? Result, bool AllowsOutOfBand, string[] Features)
{
    public static SchemaCallable Parse(JsonElement entry) => new(
        entry.Text("arg-type"), entry.Text("ret-type"),
        entry.TryGetProperty("allow-oob", out var oob) && oob.ValueKind == JsonValueKind.True,
        entry.Texts("features"));
}

/// <summary>Any type: an object has members and may have variants, an array its element, an alternate its branches, an enumeration values.</summary>
internal sealed record SchemaType(SchemaMember[] Members, string[] Parts, HashSet<string> EnumValues)
{
    public static SchemaType Parse(JsonElement entry)
    {
        var kind = entry.GetProperty("meta-type").GetString();
        return kind switch
        {
            "object" => new(
                [.. entry.Items("members").Select(m => new SchemaMember(m.Text("name") ?? "", m.Text("type") ?? "", m.Texts("features")))],
                [.. entry.Items("variants").Select(v => v.Text("type") ?? "")], []),
            "alternate" => new([], [.. entry.Items("members").Select(m => m.Text("type") ?? "")], []),
            "array" => new([], [entry.Text("element-type") ?? ""], []),
            // 'members' since QEMU 6.2; 'values' is the older form, deprecated but sent.
            "enum" => new([], [], [.. entry.Texts("values"), .. entry.Items("members").Select(m => m.Text("name") ?? "")]),
            _ => new([], [], []),
        };
    }
}

internal static class SchemaJson
{
    public static string? Text(this JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    public static IEnumerable<JsonElement> Items(this JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Array ? value.EnumerateArray() : [];

    public static string[] Texts(this JsonElement element, string name) =>
        [.. element.Items(name).Where(i => i.ValueKind == JsonValueKind.String).Select(i => i.GetString()!)];
}
