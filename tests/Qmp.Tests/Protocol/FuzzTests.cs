using System.Text;
using System.Text.Json;
using CprSharp.Qmp.Protocol;
using CprSharp.Tests;

namespace CprSharp.Qmp.Tests.Protocol;

/// <summary>QMP input made from good input.</summary>
public sealed class FuzzTests
{
    private const int Limit = 1024;

    private static readonly byte[][] s_corpus =
    [
        .. new[]
        {
            "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n", "{\"exec-oob\": \"migrate-pause\", \"id\": 17}\r\n",
            "{'execute': 'human-monitor-command', 'arguments': {'command-line': 'info \\'x\\''}}", "{\"execute\": \"a\", \"id\": {\"b\": [1, null, \"\\ud83d\\ude00\", -1.5e3]}}\n",
            "{\"return\": {}, \"id\": 2}\r\n", "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 3}\r\n",
            "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n",
            "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 1, \"major\": 11}, \"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n",
        }.Select(Encoding.UTF8.GetBytes),
        Encoding.UTF8.GetBytes($"{{\"execute\": \"{new string('x', 2 * Limit)}\"}}\n"), Encoding.UTF8.GetBytes(new string('[', 1100)),
    ];

    [Fact]
    public void Input_is_read_to_its_end_the_same_however_it_comes_and_wherever_another_reader_goes_on() => Fuzz.Run(5_000, random =>
    {
        var input = Fuzz.Mutate(random, s_corpus);
        var pieces = Pieces(random, input.Length);
        var seen = Read(input, pieces, handOver: false);
        Assert.Equal(seen, Read(input, pieces, handOver: true));

        // Of a message that is both too long and no JSON, either may be seen first.
        if (input.Length <= Limit) Assert.Equal(seen, Read(input, [input.Length], handOver: false));
    });

    [Fact]
    public void Every_message_is_a_request_or_is_not_and_every_reply_is_a_reply_or_is_not() => Fuzz.Run(5_000, random =>
    {
        var message = Fuzz.Mutate(random, s_corpus);
        if (Request.TryRead(message, out var request, out _) && request.Problem is null)
        {
            _ = request.Name;
            var withId = JsonSplice.WithId(message, "7"u8);
            Assert.True(Request.TryRead(withId, out var changed, out _));
            Assert.Equal(request.Name, changed.Name);
        }

        if (Envelope.TryParse(message, out var envelope, out _) && envelope.Kind is EnvelopeKind.Return or EnvelopeKind.Error)
            _ = QmpReply.Parse(message).ErrorDescription;
        try
        {
            _ = MessageText.FromSingleQuotes(message);
            _ = QmpGreeting.Parse(MessageText.ParseElement(message));
        }
        catch (Exception e) when (e is FormatException or JsonException)
        {
            // Which is the answer.
        }
    });

    private static List<string> Read(byte[] input, IEnumerable<int> pieces, bool handOver)
    {
        var seen = new List<string>();
        var buffer = new MessageBuffer(Limit);
        try
        {
            var at = 0;
            foreach (var piece in pieces)
            {
                for (var left = piece; left > 0;)
                {
                    var room = buffer.FreeSpace().Span;
                    Assert.True(room.Length is > 0 and < 1 << 20, "the buffer does not grow without bounds");
                    var count = Math.Min(left, room.Length);
                    input.AsSpan(at, count).CopyTo(room);
                    buffer.Advance(count);
                    (at, left) = (at + count, left - count);
                    while (buffer.TryRead(out var message, out var quotes) is var outcome and not ReadOutcome.NeedMore)
                        seen.Add(outcome == ReadOutcome.Message ? $"{quotes} {Encoding.Latin1.GetString(message)}" : outcome == ReadOutcome.Malformed ? $"{buffer.LastError}" : $"{outcome}");
                }

                if (!handOver)
                    continue;
                var state = buffer.Save();
                buffer.Dispose();
                buffer = new MessageBuffer(Limit);
                buffer.Restore(state);
            }

            seen.Add($"in a message: {buffer.InMessage}");
            return seen;
        }
        finally
        {
            buffer.Dispose();
        }
    }

    private static List<int> Pieces(Random random, int length)
    {
        var pieces = new List<int>();
        for (var left = length; left > 0; left -= pieces[^1])
            pieces.Add(random.Next(1, Math.Min(left, random.Next(2) == 0 ? 3 : 400) + 1));
        return pieces;
    }
}
