using System.Collections.Immutable;
using System.Text;
using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>The argument of a structured QEMU option: <c>a,b=c,d.e=f</c> (QemuOpts and keyval) or JSON.</summary>
/// <remarks>
/// Immutable. Keys keep their order; a key may occur several times, and the last one counts, as in QEMU. A comma in a value is
/// written twice. In the first form a key without a value is the old spelling of a switch: <c>share</c> is on,
/// <c>noshare</c> off. JSON is addressed by the same dotted keys (<c>addr.path</c>, <c>channels.0.type</c>).
/// </remarks>
public sealed class OptionString : IEquatable<OptionString>
{
    private readonly ImmutableArray<Entry> _entries;
    private readonly string? _impliedKey;
    private readonly JsonObject? _json;

    private OptionString(ImmutableArray<Entry> entries, string? impliedKey, JsonObject? json)
    {
        _entries = entries;
        _impliedKey = impliedKey;
        _json = json;
    }

    /// <summary>Whether the argument is JSON.</summary>
    public bool IsJson => _json is not null;

    /// <summary>Every key with its value, in order; nested JSON by dotted keys, switches as <c>on</c> and <c>off</c>.</summary>
    public IEnumerable<KeyValuePair<string, string>> Pairs =>
        _json is null ? _entries.Select(static entry => entry.Meaning) : JsonOptions.Flatten(_json);

    /// <summary>An option string without any key.</summary>
    public static OptionString Empty { get; } = new([], null, null);

    /// <summary>Parses an option's argument.</summary>
    /// <param name="text">The argument.</param>
    /// <param name="impliedKey">The key that a first part without <c>=</c> is the value of, such as <c>driver</c> of <c>-device</c>.</param>
    /// <exception cref="FormatException">The argument starts like JSON and is not.</exception>
    public static OptionString Parse(string text, string? impliedKey = null)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.StartsWith('{'))
            return new OptionString([], null, JsonOptions.Parse(text));
        var entries = ImmutableArray.CreateBuilder<Entry>();
        int at = 0;
        while (at < text.Length)
        {
            int end = text.AsSpan(at).IndexOfAny('=', ',');
            if (end >= 0 && text[at + end] == '=')
            {
                string key = text.Substring(at, end);
                at += end + 1;
                entries.Add(new Entry(key, TakeValue(text, ref at)));
            }
            else if (at == 0 && impliedKey is not null)
            {
                entries.Add(new Entry(impliedKey, TakeValue(text, ref at)) { Implied = true });
            }
            else
            {
                end = end < 0 ? text.Length - at : end;
                entries.Add(new Entry(text.Substring(at, end), null));
                at += end + 1;
            }
        }
        return new OptionString(entries.ToImmutable(), impliedKey, null);
    }

    /// <summary>Parses the argument of a command-line option, naming the option when it is malformed.</summary>
    /// <exception cref="CommandLineException">The argument starts like JSON and is not.</exception>
    internal static OptionString Parse(SpecOption option, string? impliedKey)
    {
        try
        {
            return Parse(option.Text, impliedKey);
        }
        catch (FormatException e)
        {
            throw new CommandLineException($"-{option.Name} {option.Value}", e.Message, "correct the JSON", e);
        }
    }

    /// <summary>The value of a key, <see langword="null"/> when absent.</summary>
    public string? this[string key] => Get(key);

    /// <summary>The value of a key (the last one, if repeated), <see langword="null"/> when absent.</summary>
    public string? Get(string key) =>
        _json is null
            ? Pairs.LastOrDefault(pair => string.Equals(pair.Key, key, StringComparison.Ordinal)).Value
            : JsonOptions.Get(_json, key);

    /// <summary>Every value of a key that may be repeated, such as <c>hostfwd</c>; in JSON also of <c>key.0.str</c> lists.</summary>
    public IEnumerable<string> GetAll(string key) =>
        Pairs.Where(pair => string.Equals(pair.Key, key, StringComparison.Ordinal) || (IsJson && JsonOptions.IsElementOf(pair.Key, key)))
            .Select(static pair => pair.Value);

    /// <summary>Whether a key is there.</summary>
    public bool Has(string key) => Get(key) is not null;

    /// <summary>The value of a switch: on, yes, true, y against off, no, false, n; <see langword="null"/> when absent or neither.</summary>
    public bool? GetSwitch(string key) => Get(key) switch
    {
        "on" or "yes" or "true" or "y" => true,
        "off" or "no" or "false" or "n" => false,
        _ => null,
    };

    /// <summary>With a key set: in its place if it is there (every repetition but one goes), else at the end.</summary>
    public OptionString With(string key, string value) => With(key, value, JsonValue.Create(value));

    /// <summary>With a switch set.</summary>
    public OptionString With(string key, bool value) => With(key, value ? "on" : "off", JsonValue.Create(value));

    /// <summary>With a number set.</summary>
    public OptionString With(string key, long value) => With(key, QemuText.Number(value), JsonValue.Create(value));

    /// <summary>Without a key, in any of its spellings.</summary>
    public OptionString Without(string key)
    {
        if (_json is null)
            return new OptionString(_entries.RemoveAll(entry => entry.Means(key)), _impliedKey, null);
        var copy = (JsonObject)_json.DeepClone();
        JsonOptions.Remove(copy, key);
        return new OptionString([], null, copy);
    }

    /// <summary>Without any of some keys.</summary>
    public OptionString Without(params ReadOnlySpan<string> keys)
    {
        OptionString result = this;
        foreach (string key in keys)
            result = result.Without(key);
        return result;
    }

    /// <summary>The argument as QEMU reads it.</summary>
    public override string ToString()
    {
        if (_json is not null)
            return JsonOptions.Render(_json);
        var text = new StringBuilder();
        for (int i = 0; i < _entries.Length; i++)
        {
            if (i > 0)
                text.Append(',');
            _entries[i].AppendTo(text, first: i == 0);
        }
        return text.ToString();
    }

    /// <inheritdoc/>
    public bool Equals(OptionString? other) => other is not null && string.Equals(ToString(), other.ToString(), StringComparison.Ordinal);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as OptionString);

    /// <inheritdoc/>
    public override int GetHashCode() => ToString().GetHashCode(StringComparison.Ordinal);

    private OptionString With(string key, string value, JsonNode? node)
    {
        if (_json is not null)
        {
            var copy = (JsonObject)_json.DeepClone();
            JsonOptions.Set(copy, key, node);
            return new OptionString([], null, copy);
        }
        int at = 0;
        while (at < _entries.Length && !_entries[at].Means(key))
            at++;
        bool implied = at == 0 && string.Equals(key, _impliedKey, StringComparison.Ordinal) && !value.Contains('=', StringComparison.Ordinal)
            && (_entries.IsEmpty || _entries[0].Implied);
        var entry = new Entry(key, value) { Implied = implied };
        var others = _entries.RemoveAll(other => other.Means(key));
        return new OptionString(others.Insert(Math.Min(at, others.Length), entry), _impliedKey, null);
    }

    private static string TakeValue(string text, ref int at)
    {
        var value = new StringBuilder();
        for (; at < text.Length; at++)
        {
            if (text[at] == ',')
            {
                if (at + 1 >= text.Length || text[at + 1] != ',')
                {
                    at++;
                    break;
                }
                at++;
            }
            value.Append(text[at]);
        }
        return value.ToString();
    }

    private readonly record struct Entry(string Key, string? Value)
    {
        public bool Implied { get; init; }

        public KeyValuePair<string, string> Meaning => Value is not null
            ? KeyValuePair.Create(Key, Value)
            : Key.StartsWith("no", StringComparison.Ordinal) && Key.Length > 2
                ? KeyValuePair.Create(Key[2..], "off")
                : KeyValuePair.Create(Key, "on");

        public bool Means(string key) => string.Equals(Meaning.Key, key, StringComparison.Ordinal);

        public void AppendTo(StringBuilder text, bool first)
        {
            if (!(Implied && first))
                text.Append(Key);
            if (Value is null)
                return;
            if (!(Implied && first))
                text.Append('=');
            text.Append(Value.Replace(",", ",,", StringComparison.Ordinal));
        }
    }
}
