using System.Text.Json;

namespace CprSharp.Qmp.Protocol;

/// <summary>Changes the <c>id</c> of a message and leaves every other byte alone, so that a proxy passes on what it does not know.</summary>
internal static class JsonSplice
{
    /// <summary>The object with its <c>id</c> set to the given JSON text, or removed when that is empty.</summary>
    /// <exception cref="JsonException">The input is not valid JSON.</exception>
    /// <exception cref="FormatException">It is not an object, or it has <c>id</c> twice.</exception>
    public static byte[] WithId(ReadOnlySpan<byte> json, ReadOnlySpan<byte> id)
    {
        var place = Find(json);
        if (place.Value is { } value)
        {
            if (!id.IsEmpty) return [.. json[..value.Start.Value], .. id, .. json[value.End.Value..]];
            var removed = place.Removal;
            return [.. json[..removed.Start.Value], .. json[removed.End.Value..]];
        }

        if (id.IsEmpty) return json.ToArray();
        var separator = place.IsEmptyObject ? ""u8 : ", "u8;
        return [.. json[..place.InsertAt], .. separator, .. "\"id\": "u8, .. id, .. json[place.InsertAt..]];
    }

    private static Place Find(ReadOnlySpan<byte> json)
    {
        var reader = new Utf8JsonReader(json, Envelope.ReaderOptions);
        reader.Read();
        if (reader.TokenType != JsonTokenType.StartObject) throw new FormatException("A QMP message must be a JSON object.");
        Range? id = null;
        int idKey = 0, previousEnd = (int)reader.BytesConsumed, idPreviousEnd = 0, following = -1, members = 0;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = (int)reader.TokenStartIndex;
            if (id is not null && following < 0) following = key;
            var isId = reader.ValueTextEquals("id"u8);
            if (isId && id is not null) throw new FormatException("A QMP message must not have 'id' twice.");
            reader.Read();
            var start = (int)reader.TokenStartIndex;
            reader.Skip();
            var end = (int)reader.BytesConsumed;
            if (isId) (id, idKey, idPreviousEnd) = (new Range(start, end), key, members == 0 ? -1 : previousEnd);
            previousEnd = end;
            members++;
        }

        reader.Read();
        if (id is null) return new Place(null, default, previousEnd, members == 0);
        // Together with the comma in front, or for the first member with the comma behind.
        var removal = idPreviousEnd >= 0 ? new Range(idPreviousEnd, id.Value.End)
            : following >= 0 ? new Range(idKey, following)
            : new Range(idKey, id.Value.End);
        return new Place(id, removal, previousEnd, false);
    }

    private readonly record struct Place(Range? Value, Range Removal, int InsertAt, bool IsEmptyObject);
}
