using System.Text.Json;
using CprSharp.Qmp.Schema;

namespace CprSharp.Qmp;

/// <summary>
/// What this VMM can do, from <c>query-qmp-schema</c> (qapi/introspect.json). Ask it instead of comparing version numbers. A path names
/// a member by the names on the way, for example <c>channels.addr.type</c>: arrays are looked through, and the members of
/// all variants of a union and all branches of an alternate count.
/// </summary>
public sealed class QmpSchema
{
    private readonly Dictionary<string, SchemaCallable> _commands = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SchemaCallable> _events = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SchemaType> _types = new(StringComparer.Ordinal);

    private QmpSchema(JsonElement schema)
    {
        foreach (var entry in schema.EnumerateArray())
        {
            var name = entry.GetProperty("name").GetString()!;
            switch (entry.GetProperty("meta-type").GetString())
            {
                case "command": _commands[name] = SchemaCallable.Parse(entry); break;
                case "event": _events[name] = SchemaCallable.Parse(entry); break;
                default: _types[name] = SchemaType.Parse(entry); break;
            }
        }
    }

    /// <summary>Reads what <c>query-qmp-schema</c> returned.</summary>
    /// <exception cref="FormatException">It is something else.</exception>
    public static QmpSchema Parse(JsonElement schema)
    {
        try
        {
            return new QmpSchema(schema);
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or ArgumentNullException)
        {
            throw new FormatException("Not the result of query-qmp-schema: expected an array of objects with 'name' and 'meta-type'.", e);
        }
    }

    /// <summary>Asks the VMM. The result is a few hundred kilobytes of JSON: keep the schema for the life of the VMM process.</summary>
    /// <inheritdoc cref="QmpClient.ExecuteAsync"/>
    public static async Task<QmpSchema> QueryAsync(QmpClient client, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(client);
        return Parse(await client.ExecuteAsync("query-qmp-schema", ct: ct));
    }

    /// <summary>The names of all commands.</summary>
    public IReadOnlyCollection<string> Commands => _commands.Keys;

    /// <summary>The names of all events.</summary>
    public IReadOnlyCollection<string> Events => _events.Keys;

    /// <summary>Whether the command exists.</summary>
    public bool HasCommand(string command) => _commands.ContainsKey(command);

    /// <summary>Whether the event exists.</summary>
    public bool HasEvent(string name) => _events.ContainsKey(name);

    /// <summary>Whether the command may be executed out-of-band.</summary>
    public bool AllowsOutOfBand(string command) => _commands.TryGetValue(command, out var found) && found.AllowsOutOfBand;

    /// <summary>Whether the command, or with a path one of its arguments, has the feature (for example <c>deprecated</c>, <c>unstable</c>).</summary>
    public bool HasFeature(string command, string feature, string? argumentPath = null)
    {
        if (!_commands.TryGetValue(command, out var found)) return false;
        return argumentPath is null
            ? found.Features.Contains(feature)
            : Members(found.Arguments, argumentPath).Any(m => m.Features.Contains(feature));
    }

    /// <summary>Whether the command takes this argument.</summary>
    public bool HasArgument(string command, string path) =>
        _commands.TryGetValue(command, out var found) && Members(found.Arguments, path).Any();

    /// <summary>Whether what the command returns can have this member.</summary>
    public bool HasResult(string command, string path) =>
        _commands.TryGetValue(command, out var found) && Members(found.Result, path).Any();

    /// <summary>Whether the event's data can have this member.</summary>
    public bool HasEventData(string name, string path) =>
        _events.TryGetValue(name, out var found) && Members(found.Arguments, path).Any();

    /// <summary>Whether this argument is an enumeration (or a list of one) that has this value.</summary>
    public bool HasEnumValue(string command, string argumentPath, string value) =>
        _commands.TryGetValue(command, out var found)
        && Members(found.Arguments, argumentPath).SelectMany(m => Resolve(m.Type)).Any(t => t.EnumValues.Contains(value));

    private IEnumerable<SchemaMember> Members(string? typeName, string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        IEnumerable<SchemaType> at = Resolve(typeName);
        IEnumerable<SchemaMember> members = [];
        foreach (var name in path.Split('.'))
        {
            members = [.. at.SelectMany(t => t.Members).Where(m => m.Name == name)];
            at = members.SelectMany(m => Resolve(m.Type));
        }

        return members;
    }

    /// <summary>The type with everything a value of it may be: elements, variants, branches. A type that contains itself is visited once.</summary>
    private HashSet<SchemaType> Resolve(string? typeName)
    {
        var reached = new HashSet<SchemaType>(ReferenceEqualityComparer.Instance);
        var open = new Stack<string>();
        if (typeName is not null) open.Push(typeName);
        while (open.TryPop(out var name))
        {
            if (!_types.TryGetValue(name, out var type) || !reached.Add(type)) continue;
            foreach (var part in type.Parts) open.Push(part);
        }

        return reached;
    }
}
