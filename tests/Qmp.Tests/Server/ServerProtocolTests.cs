using System.Text.Json;

namespace CprSharp.Qmp.Tests.Server;

public sealed class ServerProtocolTests
{
    [Fact]
    public async Task Greets_with_what_it_was_given()
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectAsync();
        Assert.Equal(
            """{"QMP":{"version":{"qemu":{"micro":2,"minor":1,"major":9},"package":"test"},"capabilities":["oob"]}}""", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task Before_negotiation_only_negotiation_and_after_it_never_again()
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectAsync();
        await wire.ReadLineAsync();

        await wire.SendAsync("""{"execute": "query-status", "id": 1}""");
        AssertError(await wire.ReadAsync(), "CommandNotFound", "qmp_capabilities", "1");
        await wire.SendAsync("""{"execute": "qmp_capabilities", "arguments": {"enable": ["warp"]}, "id": 2}""");
        AssertError(await wire.ReadAsync(), "GenericError", "warp", "2");
        await wire.SendAsync("""{"execute": "qmp_capabilities", "arguments": {"enable": "oob"}, "id": 3}""");
        AssertError(await wire.ReadAsync(), "GenericError", "enable", "3");
        await wire.SendAsync("""{"execute": "qmp_capabilities", "arguments": {"\ud800": 1}, "id": 3}""");
        AssertError(await wire.ReadAsync(), "GenericError", "unexpected", "3");
        await wire.SendAsync("""{"exec-oob": "query-status", "id": 4}""");
        AssertError(await wire.ReadAsync(), "GenericError", "exec-oob", "4");
        await wire.SendAsync("""{"execute": "qmp_capabilities", "id": 5}""");
        Assert.Equal("""{"return":{}, "id": 5}""", await wire.ReadLineAsync());
        await wire.SendAsync("""{"execute": "qmp_capabilities", "id": 6}""");
        AssertError(await wire.ReadAsync(), "CommandNotFound", "already", "6");
        await wire.SendAsync("""{"exec-oob": "query-status", "id": 7}""");
        AssertError(await wire.ReadAsync(), "GenericError", "exec-oob", "7");
    }

    [Fact]
    public async Task Out_of_band_is_not_to_be_had_where_it_is_not_offered()
    {
        await using var server = TestServer.Echo(o => o with { Greeting = () => TestServer.DefaultGreeting with { Capabilities = [] } });
        using var wire = await server.ConnectAsync();
        Assert.Equal(0, (await wire.ReadAsync()).GetProperty("QMP").GetProperty("capabilities").GetArrayLength());
        await wire.SendAsync("""{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}""");
        AssertError(await wire.ReadAsync(), "GenericError", "oob", null);
    }

    [Theory]
    [InlineData("17")]
    [InlineData("\"text\"")]
    [InlineData("null")]
    [InlineData("[1, {\"a\": 1.50}]")]
    [InlineData("12345678901234567890.125")]
    public async Task An_id_comes_back_as_it_was_written(string id)
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync($"{{\"id\": {id}, \"execute\": \"a\"}}\r\n");
        Assert.Equal(id, (await wire.ReadAsync()).GetProperty("id").GetRawText());
    }

    [Fact]
    public async Task Byte_by_byte_across_lines_without_lines_and_in_single_quotes()
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectNegotiatedAsync();

        await wire.SendOneByOneAsync("{\"execute\":\n\t\"one\",\r\n \"arguments\": {\"x\": \"}{\\\"\\\\\"}}");
        await wire.SendAsync("{\"execute\":\"two\"}{\"execute\":\"three\"} {'execute': 'four', 'arguments': {'q': 'a\"b\\'c'}}");

        Assert.Equal("}{\"\\", (await ReturnOf(wire, "one")).GetProperty("x").GetString());
        await ReturnOf(wire, "two");
        await ReturnOf(wire, "three");
        Assert.Equal("a\"b'c", (await ReturnOf(wire, "four")).GetProperty("q").GetString());
    }

    [Theory]
    [InlineData("""{"execute": "a", "extra": 1, "id": 1}""", "'extra' is unexpected", "1")]
    [InlineData("""{"arguments": {}, "id": 1}""", "lacks member 'execute'", "1")]
    [InlineData("""{"execute": 5, "id": 1}""", "must be a string", "1")]
    [InlineData("""{"execute": "\ud800", "id": 1}""", "must be a string", "1")]
    [InlineData("""{"execute": "a", "exec-oob": "a", "id": 1}""", "clashes", "1")]
    [InlineData("""{"execute": "a", "arguments": [], "id": 1}""", "must be an object", "1")]
    [InlineData("""[{"execute": "a"}]""", "must be a JSON object", null)]
    [InlineData("""{"execute": "a", "execute": "a"}""", "duplicate key", null)]
    [InlineData("""{"execute": }""", "parse error", null)]
    [InlineData("""{"execute": "a"]""", "parse error", null)]
    [InlineData("""{"\ud800": 1}""", "parse error", null)]
    [InlineData("hello world\n", "parse error", null)]
    [InlineData("null\n", "parse error", null)]
    [InlineData("{\"execute\": \"a\n", "parse error", null)]
    [InlineData("{\"execute\": {\u0001", "parse error", null)]
    public async Task Wrong_input_is_answered_and_the_next_command_works(string text, string description, string? id)
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectNegotiatedAsync();

        await wire.SendAsync(text);

        AssertError(await wire.ReadAsync(), "GenericError", description, id);
        await wire.SendAsync("""{"execute": "next"}""");
        await ReturnOf(wire, "next");
    }

    [Fact]
    public async Task Unknown_members_pass_where_wanted()
    {
        await using var server = new TestServer(
            (c, _) => ValueTask.FromResult(QmpReply.Success(JsonElement.Parse(c.RawUtf8.Span))), o => o with { PassUnknownMembers = true });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("""{"execute": "a", "__com.example_x": [1]}""");
        Assert.Equal("""{"return":{"execute":"a","__com.example_x":[1]}}""", await wire.ReadLineAsync());
    }

    [Theory]
    [InlineData("\u00FF")]
    [InlineData("\u00FE")]
    [InlineData("\u0001")]
    public async Task The_resynchronisation_byte_ends_any_half_message(string force)
    {
        await using var server = TestServer.Echo();
        foreach (var half in new[] { "", "{", "{\"execute\": \"a", "{\"a\": \"\\", "[[[", "junk" })
        {
            using var wire = await server.ConnectNegotiatedAsync();
            await wire.SendAsync([.. System.Text.Encoding.Latin1.GetBytes(half + force), .. "{\"execute\": \"next\"}"u8]);
            AssertError(await wire.ReadAsync(), "GenericError", "parse error", null);
            await ReturnOf(wire, "next");
        }
    }

    [Fact]
    public async Task An_oversize_message_is_answered_skipped_and_costs_no_memory()
    {
        await using var server = TestServer.Echo(o => o with { MaxMessageBytes = 1024 });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"" + new string('x', 1_000_000) + "\"}{\"execute\": \"next\"}");
        AssertError(await wire.ReadAsync(), "GenericError", "1024", null);
        await ReturnOf(wire, "next");
        // Longer than the limit, and complete in one read.
        await wire.SendAsync("{\"execute\": \"" + new string('x', 1100) + "\"}{\"execute\": \"after\"}");
        AssertError(await wire.ReadAsync(), "GenericError", "1024", null);
        await ReturnOf(wire, "after");
    }

    [Fact]
    public async Task Too_deep_nesting_is_answered()
    {
        await using var server = TestServer.Echo();
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"a\":" + new string('[', 1024) + "\n");
        AssertError(await wire.ReadAsync(), "GenericError", "nesting", null);
        await wire.SendAsync("{\"execute\": \"next\"}");
        await ReturnOf(wire, "next");
    }

    [Theory]
    [InlineData("", QmpConnectionFailure.EndOfStream)]
    [InlineData("{\"execute\": \"a", QmpConnectionFailure.TruncatedMessage)]
    public async Task The_end_of_a_client(string text, QmpConnectionFailure expected)
    {
        await using var server = TestServer.Echo();
        using (var wire = await server.ConnectNegotiatedAsync()) await wire.SendAsync(text);
        Assert.Equal(expected, (await server.NextEndAsync()).Failure);
        using var next = await server.ConnectNegotiatedAsync();
    }

    [Fact]
    public async Task A_client_that_closes_its_side_gets_all_answers_first()
    {
        var big = new string('x', 500_000);
        await using var server = new TestServer(async (c, _) =>
        {
            await Task.Yield();
            return QmpReply.Success(JsonElement.Parse($"\"{c.Name}{big}\""));
        });
        using var wire = await server.ConnectNegotiatedAsync();
        await wire.SendAsync("{\"execute\": \"a\"}{\"execute\": \"b\"}{\"execute\": \"c\"}");
        wire.FinishSending();
        foreach (var name in new[] { "a", "b", "c" }) Assert.StartsWith($"{{\"return\":\"{name}x", await wire.ReadLineAsync(), StringComparison.Ordinal);
        Assert.Null(await wire.ReadLineAsync());
        Assert.Equal(QmpConnectionFailure.EndOfStream, (await server.NextEndAsync()).Failure);
    }

    internal static void AssertError(JsonElement reply, string errorClass, string description, string? id)
    {
        var error = reply.GetProperty("error");
        Assert.Equal(errorClass, error.GetProperty("class").GetString());
        Assert.Contains(description, error.GetProperty("desc").GetString(), StringComparison.Ordinal);
        Assert.Equal(id, reply.TryGetProperty("id", out var got) ? got.GetRawText() : null);
    }

    internal static async Task<JsonElement> ReturnOf(WirePeer wire, string name)
    {
        var value = (await wire.ReadAsync()).GetProperty("return");
        Assert.Equal(name, value.GetProperty("name").GetString());
        return value.GetProperty("arguments");
    }
}
