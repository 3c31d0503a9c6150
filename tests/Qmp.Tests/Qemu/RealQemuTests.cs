using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;

namespace CprSharp.Qmp.Tests.Qemu;

/// <summary>Against a real QEMU; what a fake server would only repeat from its author's memory.</summary>
public sealed class RealQemuTests
{
    [Fact]
    public async Task Negotiates_and_answers()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        Assert.Equal(QmpClientState.Running, client.State);
        Assert.True(client.OutOfBandEnabled);
        var version = await client.ExecuteAsync("query-version").Soon();
        Assert.Equal(client.Greeting!.Major, version.GetProperty("qemu").GetProperty("major").GetInt32());
        Assert.Equal(client.Greeting.Package, version.GetProperty("package").GetString());
    }

    [Fact]
    public async Task Without_out_of_band_it_is_refused_here_and_in_band_still_works()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync(new QmpClientOptions { EnableOutOfBand = false });

        Assert.False(client.OutOfBandEnabled);
        await Assert.ThrowsAsync<InvalidOperationException>(() => client.ExecuteAsync("migrate-pause", options: new() { OutOfBand = true }));
        Assert.True((await client.ExecuteAsync("query-status").Soon()).TryGetProperty("status", out _));
    }

    [Fact]
    public async Task Out_of_band_executes()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        var error = await Assert.ThrowsAsync<QmpException>(
            () => client.ExecuteAsync("migrate-pause", options: new() { OutOfBand = true })).Soon();
        Assert.Equal(QmpErrorClass.GenericError, error.ErrorClass);
        var yank = await client.ExecuteAsync("query-yank", options: new() { OutOfBand = true }).Soon();
        Assert.Equal(JsonValueKind.Array, yank.ValueKind);
        var refused = await Assert.ThrowsAsync<QmpException>(
            () => client.ExecuteAsync("query-status", options: new() { OutOfBand = true })).Soon();
        Assert.Contains("OOB", refused.Description, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Error_classes_arrive()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        var unknown = await Assert.ThrowsAsync<QmpException>(() => client.ExecuteAsync("no-such-command")).Soon();
        Assert.Equal(("no-such-command", QmpErrorClass.CommandNotFound), (unknown.Command, unknown.ErrorClass));
        var device = await Assert.ThrowsAsync<QmpException>(
            () => client.ExecuteAsync("device_del", new JsonObject { ["id"] = "nobody" })).Soon();
        Assert.Equal(QmpErrorClass.DeviceNotFound, device.ErrorClass);
    }

    [Fact]
    public async Task Fifty_commands_at_once_find_their_own_replies()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        await Task.WhenAll(Enumerable.Range(0, 50).Select(async i =>
        {
            var path = $"/machine/nothing-{i}";
            var error = await Assert.ThrowsAsync<QmpException>(
                () => client.ExecuteAsync("qom-list", new JsonObject { ["path"] = path }));
            Assert.Contains(path, error.Description, StringComparison.Ordinal);
        })).Soon();
    }

    [Fact]
    public async Task A_descriptor_reaches_a_descriptor_set()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        using var file = File.OpenHandle("/dev/null");

        var added = await client.ExecuteAsync("add-fd", new JsonObject { ["fdset-id"] = 7, ["opaque"] = "mine" }, new() { Descriptors = [file] }).Soon();

        Assert.Equal(7, added.GetProperty("fdset-id").GetInt32());
        var sets = await client.ExecuteAsync("query-fdsets").Soon();
        var entry = Assert.Single(sets.EnumerateArray(), s => s.GetProperty("fdset-id").GetInt32() == 7).GetProperty("fds")[0];
        Assert.Equal("mine", entry.GetProperty("opaque").GetString());
        Assert.Equal("/dev/null", new FileInfo($"/proc/{qemu.Process.Id}/fd/{entry.GetProperty("fd").GetInt32()}").LinkTarget);
    }

    [Fact]
    public async Task Many_descriptors_at_once_each_reach_their_own_command()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        var directory = Directory.CreateTempSubdirectory("cprsharp-fds-");
        try
        {
            await Task.WhenAll(Enumerable.Range(0, 20).Select(async i =>
            {
                using var file = new FileStream(Path.Combine(directory.FullName, $"f{i}"), FileMode.Create);
                var added = await client.ExecuteAsync("add-fd", new JsonObject { ["fdset-id"] = 100 + i }, new() { Descriptors = [file.SafeFileHandle] });
                var target = new FileInfo($"/proc/{qemu.Process.Id}/fd/{added.GetProperty("fd").GetInt32()}").LinkTarget;
                Assert.Equal(file.Name, target);
            })).Soon();
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task Getfd_takes_its_descriptor_and_closefd_gives_it_up()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        using var file = File.OpenHandle("/dev/zero");

        var without = await Assert.ThrowsAsync<QmpException>(() => client.ExecuteAsync("getfd", new JsonObject { ["fdname"] = "a" })).Soon();
        Assert.Equal(QmpErrorClass.GenericError, without.ErrorClass);
        await client.ExecuteAsync("getfd", new JsonObject { ["fdname"] = "a" }, new() { Descriptors = [file] }).Soon();
        Assert.Contains(Directory.GetFiles($"/proc/{qemu.Process.Id}/fd"), f => new FileInfo(f).LinkTarget == "/dev/zero");
        await client.ExecuteAsync("closefd", new JsonObject { ["fdname"] = "a" }).Soon();
        Assert.DoesNotContain(Directory.GetFiles($"/proc/{qemu.Process.Id}/fd"), f => new FileInfo(f).LinkTarget == "/dev/zero");
    }

    [Fact]
    public async Task Schema_knows_what_this_QEMU_can()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        var schema = await QmpSchema.QueryAsync(client).Soon();

        Assert.True(schema.HasCommand("migrate"));
        Assert.False(schema.HasCommand("migrate-by-magic"));
        Assert.True(schema.HasEvent("MIGRATION"));
        Assert.True(schema.AllowsOutOfBand("migrate-pause"));
        Assert.False(schema.AllowsOutOfBand("query-status"));
        Assert.True(schema.HasArgument("migrate", "uri"));
        Assert.False(schema.HasArgument("migrate", "uri.type"));
        Assert.True(schema.HasArgument("migrate-set-capabilities", "capabilities.capability"));
        Assert.True(schema.HasEnumValue("migrate-set-capabilities", "capabilities.capability", "x-ignore-shared"));
        Assert.False(schema.HasEnumValue("migrate-set-capabilities", "capabilities.capability", "x-teleport"));
        Assert.True(schema.HasArgument("blockdev-add", "file.filename"));
        Assert.True(schema.HasArgument("chardev-add", "backend.data.addr.data.path"));
        Assert.True(schema.HasResult("query-status", "running"));
        Assert.True(schema.HasEventData("SHUTDOWN", "guest"));
        Assert.False(schema.HasFeature("query-status", "deprecated"));
        var answer = await client.ExecuteAsync("query-commands").Soon();
        Assert.Equal(answer.EnumerateArray().Select(c => c.GetProperty("name").GetString()).Order(), schema.Commands.Order());
    }

    [Fact]
    public async Task Events_arrive_with_time_and_text()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        using var all = client.Subscribe();
        using var stops = client.Subscribe("STOP");
        var before = DateTimeOffset.UtcNow;

        await client.ExecuteAsync("cont").Soon();
        await client.ExecuteAsync("stop").Soon();

        var resume = await all.NextAsync().Soon();
        Assert.Equal("RESUME", resume.Name);
        Assert.InRange(resume.Timestamp!.Value, before.AddSeconds(-1), DateTimeOffset.UtcNow.AddSeconds(1));
        Assert.Equal(JsonValueKind.Object, resume.Data.ValueKind);
        var stop = await all.NextAsync().Soon();
        Assert.Equal("STOP", (await stops.NextAsync().Soon()).Name);
        Assert.True(stop.TimestampMicroseconds >= resume.TimestampMicroseconds);
        using var raw = JsonDocument.Parse(stop.RawUtf8);
        Assert.Equal("STOP", raw.RootElement.GetProperty("event").GetString());
    }

    [Fact]
    public async Task Quit_is_answered_then_shutdown_then_the_end()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        using var events = client.Subscribe();

        await client.ExecuteAsync("quit").Soon();

        var shutdown = await events.NextAsync(e => e.Name == "SHUTDOWN").Soon();
        Assert.Equal("host-qmp-quit", shutdown.Data.GetProperty("reason").GetString());
        await Assert.ThrowsAsync<QmpConnectionException>(() => events.NextAsync().Soon());
        await Assert.ThrowsAsync<QmpConnectionException>(() => client.Completion.Soon());
        Assert.Equal(QmpClientState.Idle, client.State);
    }

    [Fact]
    public async Task A_killed_QEMU_ends_the_connection_and_the_client_can_take_the_next()
    {
        await using var first = new QemuProcess();
        await using var client = await first.ConnectAsync();
        first.Process.Kill();

        var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => client.Completion.Soon());
        Assert.Contains(cause.Failure, new[] { QmpConnectionFailure.EndOfStream, QmpConnectionFailure.Io });
        Assert.Equal(QmpClientState.Idle, client.State);
        var late = await Assert.ThrowsAsync<QmpConnectionException>(() => client.ExecuteAsync("query-status"));
        Assert.Equal(QmpConnectionFailure.NotConnected, late.Failure);

        await using var second = new QemuProcess();
        await second.ConnectAsync(client);
        Assert.Equal(QmpClientState.Running, client.State);
        await client.ExecuteAsync("query-status").Soon();
    }

    [Fact]
    public async Task A_second_client_gets_no_greeting_until_the_first_has_left()
    {
        await using var qemu = new QemuProcess();
        await using var first = await qemu.ConnectAsync();
        await using var second = new QmpClient(new QmpClientOptions { GreetingTimeout = TimeSpan.FromMilliseconds(200) });

        var refused = await Assert.ThrowsAsync<QmpConnectionException>(() => second.ConnectAsync(qemu.SocketPath));
        Assert.Equal(QmpConnectionFailure.GreetingTimeout, refused.Failure);
        Assert.Equal(QmpClientState.Idle, second.State);
        await first.DisconnectAsync().Soon();
        await using var third = await qemu.ConnectAsync();
        await third.ExecuteAsync("query-status").Soon();
    }

    [Fact]
    public async Task Pretty_printed_messages_are_read_and_given_out_as_one_line()
    {
        await using var qemu = new QemuProcess(pretty: true);
        await using var client = await qemu.ConnectAsync();
        using var events = client.Subscribe();

        var reply = await client.ExecuteRawAsync("{\"execute\":\r\n \"cont\"}"u8.ToArray()).Soon();

        Assert.DoesNotContain((byte)'\n', reply.RawUtf8.ToArray());
        Assert.DoesNotContain((byte)'\n', (await events.NextAsync().Soon()).RawUtf8.ToArray());
        Assert.True((await QmpSchema.QueryAsync(client).Soon()).HasCommand("stop"));
    }

    [Fact]
    public async Task A_raw_command_keeps_unknown_members_and_QEMU_judges_them()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        var fine = await client.ExecuteRawAsync("{\"id\": [1, \"x\"],\n \"execute\": \"query-name\"}"u8.ToArray()).Soon();
        Assert.False(fine.IsError);
        Assert.Equal("{\"return\": {}, \"id\": [1, \"x\"]}", Encoding.UTF8.GetString(fine.WithId("[1, \"x\"]"u8)));
        Assert.Equal("{\"return\": {}}", Encoding.UTF8.GetString(fine.WithId([])));

        var unknown = await client.ExecuteRawAsync("{\"execute\": \"query-name\", \"__com.example_x\": 1}"u8.ToArray()).Soon();
        Assert.Contains("__com.example_x", unknown.ErrorDescription!, StringComparison.Ordinal);
        var notString = await client.ExecuteRawAsync("{\"execute\": 5}"u8.ToArray()).Soon();
        Assert.Equal(QmpErrorClass.GenericError, notString.ErrorClass);
    }

    [Fact]
    public async Task A_command_that_QEMU_cannot_parse_fails_alone()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();

        // Half a surrogate pair: JSON to this library, a syntax error to QEMU, which then cannot tell the id.
        var broken = client.ExecuteRawAsync("{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"\\ud800\"}}"u8.ToArray());
        var sound = client.ExecuteAsync("query-status");

        Assert.True((await broken.Soon()).IsError);
        Assert.True((await sound.Soon()).TryGetProperty("status", out _));
    }

    [Fact]
    public async Task A_command_costs_less_than_a_few_milliseconds()
    {
        await using var qemu = new QemuProcess();
        await using var client = await qemu.ConnectAsync();
        for (var i = 0; i < 200; i++) await client.ExecuteAsync("query-status").Soon();
        var started = Stopwatch.GetTimestamp();
        for (var i = 0; i < 200; i++) await client.ExecuteAsync("query-status");
        var each = Stopwatch.GetElapsedTime(started) / 200;
        TestContext.Current.TestOutputHelper?.WriteLine($"{each.TotalMicroseconds:0} us per command");
        Assert.InRange(each.TotalMilliseconds, 0, 20);
    }
}
