using System.Text.Json;
using System.Text.Unicode;

namespace CprSharp.Qmp.Protocol;

/// <summary>A command as it came from a client, checked as QEMU does (qapi/qmp-dispatch.c, qmp_dispatch_check_obj).</summary>
internal readonly record struct Request
{
    /// <summary>The text of <c>execute</c> or <c>exec-oob</c>; null when <see cref="Problem"/> says why there is none.</summary>
    public string? Name { get; private init; }

    /// <summary>Whether it has <c>exec-oob</c> and not <c>execute</c>.</summary>
    public bool IsOutOfBand { get; private init; }

    public Range? Id { get; private init; }

    public Range? Arguments { get; private init; }

    /// <summary>Why it is no command; the answer is an error with its id.</summary>
    public string? Problem { get; private init; }

    /// <summary>A member that the specification does not have.</summary>
    public string? UnexpectedMember { get; private init; }

    /// <summary>Reads a message. False when it is not JSON at all, so that not even an id can be known.</summary>
    public static bool TryRead(ReadOnlySpan<byte> json, out Request request, out string? syntaxError)
    {
        request = default;
        syntaxError = Utf8.IsValid(json) ? null : "invalid UTF-8 sequence in string";
        if (syntaxError is not null) return false;
        try
        {
            var reader = new Utf8JsonReader(json, Envelope.ReaderOptions);
            reader.Read();
            if (reader.TokenType == JsonTokenType.StartObject)
            {
                request = ReadMembers(json, ref reader, out syntaxError);
            }
            else
            {
                request = new Request { Problem = "QMP input must be a JSON object" };
                reader.Skip();
            }

            reader.Read();
            return syntaxError is null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: a name with half a surrogate pair.
            syntaxError = e.Message;
            return false;
        }
    }

    private static Request ReadMembers(ReadOnlySpan<byte> json, ref Utf8JsonReader reader, out string? syntaxError)
    {
        syntaxError = null;
        string? execute = null, executeOutOfBand = null, problem = null, unexpected = null;
        Range? id = null, arguments = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            reader.Read();
            var start = (int)reader.TokenStartIndex;
            var kind = reader.TokenType;
            reader.Skip();
            var value = new Range(start, (int)reader.BytesConsumed);
            var duplicate = false;
            switch (name)
            {
                case "id":
                    duplicate = id is not null;
                    id = value;
                    break;
                case "arguments":
                    duplicate = arguments is not null;
                    arguments = value;
                    if (kind != JsonTokenType.StartObject) problem ??= "QMP input member 'arguments' must be an object";
                    break;
                case "execute":
                    duplicate = execute is not null;
                    execute = CommandName(json[value], name, ref problem);
                    break;
                case "exec-oob":
                    duplicate = executeOutOfBand is not null;
                    executeOutOfBand = CommandName(json[value], name, ref problem);
                    break;
                default:
                    unexpected ??= name;
                    break;
            }

            if (duplicate) syntaxError ??= "duplicate key";
        }

        problem ??= (execute, executeOutOfBand) switch
        {
            (null, null) => "QMP input lacks member 'execute'",
            ({ }, { }) => "QMP input member 'exec-oob' clashes with 'execute'",
            _ => null,
        };
        return new Request
        {
            Name = problem is null ? execute ?? executeOutOfBand : null,
            IsOutOfBand = executeOutOfBand is not null && execute is null,
            Id = id,
            Arguments = arguments,
            Problem = problem,
            UnexpectedMember = unexpected,
        };
    }

    private static string CommandName(ReadOnlySpan<byte> json, string member, ref string? problem)
    {
        var name = MessageText.StringValue(json);
        if (name is null) problem ??= $"QMP input member '{member}' must be a string";
        return name ?? "";
    }
}
