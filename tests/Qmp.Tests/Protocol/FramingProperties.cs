using System.Text;
using System.Text.Json;
using CprSharp.Qmp.Protocol;
using FsCheck;
using FsCheck.Fluent;

namespace CprSharp.Qmp.Tests.Protocol;

public sealed class FramingProperties
{
    private static readonly Config s_config = Config.QuickThrowOnFailure.WithMaxTest(300);

    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true };

    /// <summary>Bytes that matter to the framing come often, all others sometimes.</summary>
    private static readonly Gen<byte> s_garbageByte = Gen.Frequency(
        (5, Gen.Elements("{}[]\"'\\\n \t\r,:a1"u8.ToArray())), (1, Gen.Elements<byte>(0, 1, 0x1F, 0x7F, 0x80, 0xFD, 0xFE, 0xFF)),
        (2, Gen.Choose(0, 255).Select(i => (byte)i)));

    private static readonly Gen<byte[]> s_garbage = Gen.Sized(size => Gen.ArrayOf(s_garbageByte, Math.Max(1, size * 4)));

    private static readonly Gen<string> s_text = Gen.Sized(size => Gen.ArrayOf(
        Gen.Frequency((3, Gen.Elements("{}[]\"'\\,:/ ".ToCharArray())), (3, Gen.Elements("azä€\u0001\n\u2028".ToCharArray()))), size % 12).Select(c => new string(c)));

    private static readonly Gen<string> s_message =
        from key in s_text
        from value in s_text
        from depth in Gen.Choose(0, 5)
        from number in Gen.Choose(-5, 100_000)
        from format in Gen.Elements(JsonSerializerOptions.Default, s_indented)
        select JsonSerializer.Serialize(new Dictionary<string, object> { [key] = Nest(value, depth), ["n" + key] = number }, format);

    private static readonly Gen<string> s_gap = Gen.Elements("", " ", "\r\n", "\n", "\n\t \r\n");

    private static readonly Gen<int[]> s_cuts = Gen.ArrayOf(Gen.Frequency((3, Gen.Choose(1, 3)), (1, Gen.Choose(4, 500))), 20);

    [Fact]
    public void Any_split_of_the_stream_gives_the_same_messages()
    {
        var cases =
            from messages in Gen.ListOf(s_message)
            from gaps in Gen.ArrayOf(s_gap, messages.Count + 1)
            from cuts in s_cuts
            select (Messages: messages.ToList(), Stream: gaps[0] + string.Concat(messages.Zip(gaps.Skip(1), (m, g) => m + g)), Cuts: cuts);
        Prop.ForAll(cases.ToArbitrary(), c =>
            Read(Encoding.UTF8.GetBytes(c.Stream), c.Cuts, 1 << 20).SequenceEqual(c.Messages)).Check(s_config);
    }

    [Fact]
    public void Any_split_of_garbage_gives_the_same_outcome()
    {
        var cases = from garbage in s_garbage from cuts in s_cuts select (garbage, cuts);
        Prop.ForAll(cases.ToArbitrary(), c =>
            Read(c.garbage, c.cuts, 64).SequenceEqual(Read(c.garbage, [c.garbage.Length], 64))).Check(s_config);
    }

    [Fact]
    public void After_any_garbage_the_resynchronisation_byte_makes_the_next_message_readable()
    {
        var cases = from garbage in s_garbage from message in s_message from cuts in s_cuts from force in Gen.Elements<byte>(0xFF, 0xFE, 0x01) select (garbage, message, cuts, force);
        Prop.ForAll(cases.ToArbitrary(), c =>
            Read([.. c.garbage, c.force, .. Encoding.UTF8.GetBytes(c.message)], c.cuts, 1 << 20).Last() == c.message).Check(s_config);
    }

    [Fact]
    public void A_limit_counts_bytes_and_nothing_behind_an_oversize_message_is_lost()
    {
        var cases = from messages in Gen.NonEmptyListOf(s_message) from cuts in s_cuts from limit in Gen.Choose(10, 80) select (messages, cuts, limit);
        Prop.ForAll(cases.ToArbitrary(), c =>
            Read(Encoding.UTF8.GetBytes(string.Concat(c.messages)), c.cuts, c.limit)
                .SequenceEqual(c.messages.Select(m => Encoding.UTF8.GetByteCount(m) > c.limit ? "Oversize" : m))).Check(s_config);
    }

    [Fact]
    public void Setting_an_id_changes_the_id_and_nothing_else()
    {
        var ids = Gen.Elements("1", "\"x\"", "null", "[1, {}]", "{\"id\": 2}");
        var members = Gen.ListOf(
            from name in Gen.Elements("execute", "arguments", "x", "ID", "i\\u0064x")
            from value in Gen.Elements("1", "{\"id\": 7}", "[ \"id\" ]", "\"}\"")
            from gap in s_gap
            select $"{gap}\"{name}\"{gap}:{gap}{value}{gap}");
        var cases = from before in members from after in members from old in Gen.OneOf(Gen.Constant<string?>(null), ids.Select(i => (string?)i)) from id in ids select (before, after, old, id);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            var json = "{" + string.Join(',', [.. c.before, .. c.old is null ? [] : new[] { $"\"id\": {c.old}" }, .. c.after]) + "}";
            var with = Encoding.UTF8.GetString(JsonSplice.WithId(Encoding.UTF8.GetBytes(json), Encoding.UTF8.GetBytes(c.id)));
            var without = Encoding.UTF8.GetString(JsonSplice.WithId(Encoding.UTF8.GetBytes(with), []));
            var back = c.old is null ? without : Encoding.UTF8.GetString(JsonSplice.WithId(Encoding.UTF8.GetBytes(with), Encoding.UTF8.GetBytes(c.old)));
            return Members(with).SequenceEqual(Members(json).Where(m => m.Name != "id").Append(("id", c.id)).Order())
                && Members(without).SequenceEqual(Members(json).Where(m => m.Name != "id"))
                && back == json;
        }).Check(s_config);
    }

    [Fact]
    public void Single_quotes_mean_the_same_as_double_quotes()
    {
        Prop.ForAll(s_text.ToArbitrary(), text =>
        {
            var inside = JsonSerializer.Serialize(text)[1..^1].Replace("\\u0022", "\"", StringComparison.Ordinal).Replace("\\u0027", "\\'", StringComparison.Ordinal);
            var plain = MessageText.FromSingleQuotes(Encoding.UTF8.GetBytes($"{{'a': '{inside}', \"b\": \"it\\'s\"}}"));
            var parsed = JsonElement.Parse(plain);
            return parsed.GetProperty("a").GetString() == text && parsed.GetProperty("b").GetString() == "it's";
        }).Check(s_config);
    }

    private static object Nest(object value, int depth) => depth == 0 ? value : Nest(depth % 2 == 0 ? new[] { value } : new Dictionary<string, object> { ["k"] = value }, depth - 1);

    private static IEnumerable<(string Name, string Value)> Members(string json) =>
        JsonElement.Parse(json).EnumerateObject().Select(p => (p.Name, p.Value.GetRawText())).Order();

    /// <summary>What the buffer makes of the stream, delivered in pieces of these sizes: messages as text, problems by name.</summary>
    private static List<string> Read(byte[] stream, int[] cuts, int limit)
    {
        var outcomes = new List<string>();
        using var buffer = new MessageBuffer(limit);
        for (int position = 0, cut = 0; position < stream.Length; cut++)
        {
            var space = buffer.FreeSpace();
            var count = Math.Min(Math.Min(cuts[cut % cuts.Length], space.Length), stream.Length - position);
            stream.AsSpan(position, count).CopyTo(space.Span);
            buffer.Advance(count);
            position += count;
            while (true)
            {
                var outcome = buffer.TryRead(out var message, out _);
                if (outcome == ReadOutcome.NeedMore) break;
                outcomes.Add(outcome switch
                {
                    ReadOutcome.Message => Encoding.UTF8.GetString(message),
                    ReadOutcome.Malformed => buffer.LastError.ToString(),
                    _ => outcome.ToString(),
                });
            }
        }

        return outcomes;
    }
}
