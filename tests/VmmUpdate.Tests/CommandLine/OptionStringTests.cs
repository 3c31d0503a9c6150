using CprSharp.VmmUpdate.CommandLine;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

public sealed class OptionStringTests
{
    [Theory]
    [InlineData("q35,accel=kvm", "type", "type", "q35")]
    [InlineData("type=q35", "type", "type", "q35")]
    [InlineData("socket,id=c,server,nowait", "backend", "server", "on")]
    [InlineData("socket,id=c,server,nowait", "backend", "wait", "off")]
    [InlineData("file,path=a,,b,append=on", "backend", "path", "a,b")]
    [InlineData("a,,b", "type", "type", "a,b")]
    [InlineData("user,hostfwd=a,hostfwd=b", "type", "hostfwd", "b")]
    [InlineData("a=b=c", null, "a", "b=c")]
    [InlineData("a=,b=1", null, "a", "")]
    [InlineData("x,addr.type=inet,addr.port=1", "type", "addr.port", "1")]
    [InlineData("""{"driver":"file","cache":{"direct":true,"no-flush":false}}""", null, "cache.direct", "on")]
    [InlineData("""{"driver":"file","cache":{"direct":true,"no-flush":false}}""", null, "cache.no-flush", "off")]
    [InlineData("""{"size":1073741824}""", null, "size", "1073741824")]
    [InlineData("""{"a":[{"b":"c"},{"b":"d"}]}""", null, "a.1.b", "d")]
    [InlineData("{'driver':'e1000','id':'it\\'s \"n\"'}", null, "id", "it's \"n\"")]
    [InlineData("a=1", null, "b", null)]
    public void A_key_is_found(string text, string? implied, string key, string? value) =>
        Assert.Equal(value, OptionString.Parse(text, implied)[key]);

    [Theory]
    [InlineData("{")]
    [InlineData("{}x")]
    [InlineData("""{"a":1,"a":2}""")]
    public void Malformed_json_is_refused(string text) => Assert.Throws<FormatException>(() => OptionString.Parse(text));

    [Theory]
    [InlineData("socket,id=c,server,nowait", "wait", "on", "socket,id=c,server,wait=on")]
    [InlineData("socket,id=c", "path", "/a,b", "socket,id=c,path=/a,,b")]
    [InlineData("socket,id=c", "backend", "file", "file,id=c")]
    [InlineData("id=c,backend=socket", "backend", "file", "id=c,backend=file")]
    [InlineData("a,x=1,y=2,x=3", "x", "4", "a,x=4,y=2")]
    [InlineData("""{"a":{"b":1}}""", "a.c", "x", """{"a":{"b":1,"c":"x"}}""")]
    [InlineData("""{"a":"<&>é"}""", "b", "x", """{"a":"<&>é","b":"x"}""")]
    public void A_key_is_set(string text, string key, string value, string expected) =>
        Assert.Equal(expected, OptionString.Parse(text, "backend").With(key, value).ToString());

    [Theory]
    [InlineData("socket,id=c,server,nowait", "wait", "socket,id=c,server")]
    [InlineData("user,id=n,hostfwd=a,restrict=on,hostfwd=b", "hostfwd", "user,id=n,restrict=on")]
    [InlineData("""{"type":"user","hostfwd":[{"str":"a"}]}""", "hostfwd", """{"type":"user"}""")]
    [InlineData("""{"a":{"b":1,"c":2}}""", "a.b", """{"a":{"c":2}}""")]
    public void A_key_is_taken_away(string text, string key, string expected) =>
        Assert.Equal(expected, OptionString.Parse(text, "type").Without(key).ToString());

    [Fact]
    public void Json_keeps_the_types_of_what_is_set() =>
        Assert.Equal("""{"share":true,"size":4096}""", OptionString.Parse("{}").With("share", true).With("size", 4096).ToString());

    [Theory]
    [InlineData("user,hostfwd=a,,1,hostfwd=b")]
    [InlineData("""{"type":"user","hostfwd":[{"str":"a,1"},{"str":"b"}]}""")]
    public void A_repeated_key_gives_all_its_values(string text) =>
        Assert.Equal(["a,1", "b"], OptionString.Parse(text, "type").GetAll("hostfwd"));

    private static readonly Gen<string> Word = Gen.Elements("a", "id", "no", "server", "node-name", "x.y", "path");

    private static readonly Gen<string> Value =
        Gen.Elements("", "a", ",", "=", ",,", "a,b", "k=v", "/dev/x", "é", "{", " ", "noa").ArrayOf().Select(static parts => string.Concat(parts));

    private static readonly Gen<(string Key, string Value)[]> Pairs =
        Word.SelectMany(static key => Value.Select(value => (key, value))).ArrayOf();

    [Fact]
    public void What_is_set_is_read_back_after_rendering()
    {
        Prop.ForAll(Pairs.ToArbitrary(), static pairs =>
        {
            OptionString built = pairs.Aggregate(OptionString.Parse("kind", "type"), static (o, pair) => o.With(pair.Key, pair.Value));
            OptionString read = OptionString.Parse(built.ToString(), "type");
            return read.Pairs.SequenceEqual(built.Pairs) && read.ToString() == built.ToString()
                && pairs.All(pair => read[pair.Key] == pairs.Last(other => other.Key == pair.Key).Value);
        }).QuickCheckThrowOnFailure();
    }

    [Fact]
    public void Rendering_what_was_parsed_changes_nothing()
    {
        Gen<string> text = Gen.Elements("a", "b=c", "no", "d=e,,f", "server", "x.y=1", "=", "a=b=c", "g=,,").ArrayOf().Select(static parts => string.Join(',', parts));
        Prop.ForAll(text.ToArbitrary(), static text =>
        {
            string once = OptionString.Parse(text, "type").ToString();
            return OptionString.Parse(once, "type").ToString() == once
                && OptionString.Parse(once, "type").Pairs.SequenceEqual(OptionString.Parse(text, "type").Pairs);
        }).QuickCheckThrowOnFailure();
    }
}
