using System.Text.Json.Nodes;
using CprSharp.Qmp;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What CprSharp adds to a VM's QMP, as <c>query-qmp-schema</c> tells it (QEMU <c>qapi/introspect.json</c>, SchemaInfo).</summary>
/// <remarks>QEMU numbers its types; ours have names under the downstream prefix, so that they cannot meet. Reports are documents of their own, hence <c>any</c>.</remarks>
internal static class OwnSchema
{
    private const string Any = "any";

    private static readonly (string Name, Member[] Members)[] Arguments =
    [
        (QmpNames.Status, []),
        (QmpNames.Cancel, []),
        (QmpNames.Lend, [new("cgroups", Any, Optional: true), new("tap", "str", Optional: true), new("index", "number", Optional: true), new("real-time", "bool", Optional: true)]),
        (QmpNames.Check, [new("to", "str", Optional: true)]),
        (QmpNames.Update, [new("to", "str"), new("engine", "str", Optional: true), new("dry-run", "bool", Optional: true), new("fault", "str", Optional: true)]),
        (QmpNames.Reexec, [new("to", "str")]),
        (QmpNames.Rollback, [new("fault", "str", Optional: true)]),
    ];

    private static readonly Member[] EventData =
        [new("phase", "str", Optional: true), new("outcome", "str", Optional: true), new("pause-ms", "number", Optional: true)];

    /// <summary>QEMU's schema and ours.</summary>
    public static QmpReply Extend(QmpReply reply)
    {
        var schema = JsonArray.Create(reply.ReturnValue())!;
        var known = schema.Select(entry => entry!["name"]!.GetValue<string>()).ToHashSet();
        foreach (var (name, kind) in new[] { ("str", "string"), ("bool", "boolean"), ("number", "number"), (Any, "value") })
        {
            if (!known.Contains(name))
                schema.Add((JsonNode)new JsonObject { ["name"] = name, ["meta-type"] = "builtin", ["json-type"] = kind });
        }

        foreach (var (name, members) in Arguments)
        {
            var type = $"{QmpNames.Prefix}{name}-arg";
            schema.Add((JsonNode)new JsonObject { ["name"] = QmpNames.Prefix + name, ["meta-type"] = "command", ["arg-type"] = type, ["ret-type"] = Any });
            schema.Add((JsonNode)ObjectType(type, members));
        }

        var data = $"{QmpNames.UpdateEvent}-arg";
        schema.Add((JsonNode)new JsonObject { ["name"] = QmpNames.UpdateEvent, ["meta-type"] = "event", ["arg-type"] = data });
        schema.Add((JsonNode)ObjectType(data, EventData));
        return QmpReply.Success(schema);
    }

    private static JsonObject ObjectType(string name, Member[] members)
    {
        var list = new JsonArray();
        foreach (var member in members)
        {
            var entry = new JsonObject { ["name"] = member.Name, ["type"] = member.Type };
            if (member.Optional)
                entry["default"] = null;
            list.Add((JsonNode)entry);
        }

        return new JsonObject { ["name"] = name, ["meta-type"] = "object", ["members"] = list };
    }

    private sealed record Member(string Name, string Type, bool Optional = false);
}
