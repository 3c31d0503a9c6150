using System.Text.Json;

namespace CprSharp.Qmp.Tests.Protocol;

public sealed class SchemaTests
{
    private static readonly QmpSchema s_schema = QmpSchema.Parse(JsonElement.Parse(
        """
        [
          {"name": "migrate", "meta-type": "command", "arg-type": "1", "ret-type": "0", "features": ["deprecated"]},
          {"name": "pause", "meta-type": "command", "arg-type": "0", "ret-type": "7", "allow-oob": true},
          {"name": "MOVED", "meta-type": "event", "arg-type": "3"},
          {"name": "0", "meta-type": "object", "members": []},
          {"name": "1", "meta-type": "object", "members": [
            {"name": "channels", "type": "[2]", "default": null}, {"name": "uri", "type": "str", "features": ["deprecated"]}, {"name": "either", "type": "6"}]},
          {"name": "[2]", "meta-type": "array", "element-type": "2"},
          {"name": "2", "meta-type": "object", "members": [{"name": "addr", "type": "3"}, {"name": "self", "type": "[2]"}]},
          {"name": "3", "meta-type": "object", "members": [{"name": "type", "type": "4"}], "tag": "type", "variants": [
            {"case": "unix", "type": "5"}, {"case": "fd", "type": "0"}]},
          {"name": "4", "meta-type": "enum", "values": ["unix", "fd"], "members": [{"name": "unix"}, {"name": "fd"}, {"name": "new"}]},
          {"name": "5", "meta-type": "object", "members": [{"name": "path", "type": "str"}]},
          {"name": "6", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "5"}]},
          {"name": "7", "meta-type": "array", "element-type": "5"},
          {"name": "str", "meta-type": "builtin", "json-type": "string"},
          {"name": "later", "meta-type": "something-new"}
        ]
        """));

    [Theory]
    [InlineData("channels", true)]
    [InlineData("channels.addr", true)]
    [InlineData("channels.addr.type", true)]
    [InlineData("channels.addr.path", true)]
    [InlineData("channels.self.self.self.addr.path", true)]
    [InlineData("either.path", true)]
    [InlineData("uri", true)]
    [InlineData("uri.path", false)]
    [InlineData("addr", false)]
    [InlineData("channels.addr.unix", false)]
    [InlineData("channels.", false)]
    public void Arguments_are_found_through_arrays_variants_and_alternates(string path, bool there) =>
        Assert.Equal(there, s_schema.HasArgument("migrate", path));

    [Fact]
    public void Values_features_results_events()
    {
        Assert.True(s_schema.HasEnumValue("migrate", "channels.addr.type", "fd"));
        Assert.True(s_schema.HasEnumValue("migrate", "channels.addr.type", "new"));
        Assert.False(s_schema.HasEnumValue("migrate", "channels.addr.type", "tcp"));
        Assert.False(s_schema.HasEnumValue("migrate", "uri", "fd"));
        Assert.False(s_schema.HasEnumValue("nothing", "uri", "fd"));
        Assert.True(s_schema.HasFeature("migrate", "deprecated"));
        Assert.True(s_schema.HasFeature("migrate", "deprecated", "uri"));
        Assert.False(s_schema.HasFeature("migrate", "deprecated", "channels"));
        Assert.True(s_schema.AllowsOutOfBand("pause"));
        Assert.False(s_schema.AllowsOutOfBand("migrate"));
        Assert.True(s_schema.HasResult("pause", "path"));
        Assert.False(s_schema.HasResult("migrate", "path"));
        Assert.True(s_schema.HasEventData("MOVED", "path"));
        Assert.True(s_schema.HasEvent("MOVED"));
        Assert.False(s_schema.HasCommand("MOVED"));
        Assert.False(s_schema.HasArgument("pause", "anything"));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[1]")]
    [InlineData("[{\"name\": \"x\"}]")]
    [InlineData("[{\"name\": null, \"meta-type\": \"command\"}]")]
    [InlineData("[{\"name\": 1, \"meta-type\": \"command\"}]")]
    public void Anything_else_is_refused(string json) => Assert.Throws<FormatException>(() => QmpSchema.Parse(JsonElement.Parse(json)));
}
