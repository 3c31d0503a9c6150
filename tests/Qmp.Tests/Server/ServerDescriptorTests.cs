using System.Collections.Concurrent;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Qmp.Tests.Server;

public sealed class ServerDescriptorTests
{
    private const string Zero = "/dev/zero";
    private const string Null = "/dev/null";

    private static ValueTask<QmpReply> ListAsync(QmpServerCommand command, CancellationToken ct) => ValueTask.FromResult(
        QmpReply.Success(JsonElement.Parse($"[\"{command.Name}\"{string.Concat(command.Descriptors.Select(d => $",\"{Target(d)}\""))}]")));

    [Fact]
    public async Task They_come_with_their_command_however_bytes_are_cut_and_glued()
    {
        await using var server = new TestServer(ListAsync);
        using var wire = await server.ConnectNegotiatedAsync();
        using var zero = File.OpenHandle(Zero);
        using var nothing = File.OpenHandle(Null);

        wire.SendWithDescriptors("{\"execute\": \"with\"}\r\n", zero, nothing);
        Assert.Equal($"{{\"return\":[\"with\",\"{Zero}\",\"{Null}\"]}}", await wire.ReadLineAsync());

        // While 'slow' holds the reader up in lock step, the kernel glues what follows to one read each.
        await wire.SendAsync("{\"execute\": \"before\"}\r\n{\"execute\": \"before\"}\r\n");
        wire.SendWithDescriptors("{\"execute\": \"with\"}\r\n", zero);
        await wire.SendAsync("{\"execute\": \"after\"}\r\n");
        Assert.Equal("{\"return\":[\"before\"]}", await wire.ReadLineAsync());
        Assert.Equal("{\"return\":[\"before\"]}", await wire.ReadLineAsync());
        Assert.Equal($"{{\"return\":[\"with\",\"{Zero}\"]}}", await wire.ReadLineAsync());
        Assert.Equal("{\"return\":[\"after\"]}", await wire.ReadLineAsync());

        // With the first bytes of a command that comes in pieces.
        wire.SendWithDescriptors("{\"exec", nothing);
        await wire.SendOneByOneAsync("ute\": \"with\"}");
        Assert.Equal($"{{\"return\":[\"with\",\"{Null}\"]}}", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task Glued_behind_a_command_that_is_executing()
    {
        var gate = new TaskCompletionSource();
        await using var server = new TestServer(async (c, ct) =>
        {
            if (c.Name == "slow") await gate.Task;
            return await ListAsync(c, ct);
        });
        using var wire = await server.ConnectNegotiatedAsync();
        using var zero = File.OpenHandle(Zero);
        using var nothing = File.OpenHandle(Null);
        await wire.SendAsync("{\"execute\": \"slow\"}\r\n");
        await wire.SendAsync("{\"execute\": \"a\"}\r\n");
        wire.SendWithDescriptors("{\"execute\": \"b\"}\r\n", zero);
        wire.SendWithDescriptors("{\"execute\": \"c\"}", nothing);
        await wire.SendAsync("\r\n");
        await wire.SendAsync("{\"execute\": \"d\"}\r\n");
        // The habit of the Python library: a space with the descriptor ahead of the command.
        wire.SendWithDescriptors(" ", zero);
        await wire.SendAsync("{\"execute\": \"e\"}\r\n");
        gate.SetResult();

        foreach (var expected in new[] { "\"slow\"", "\"a\"", $"\"b\",\"{Zero}\"", $"\"c\",\"{Null}\"", "\"d\"", $"\"e\",\"{Zero}\"" })
            Assert.Equal($"{{\"return\":[{expected}]}}", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task A_newer_set_replaces_one_that_no_command_took()
    {
        await using var server = new TestServer(ListAsync);
        using var wire = await server.ConnectNegotiatedAsync();
        using var zero = File.OpenHandle(Zero);
        using var nothing = File.OpenHandle(Null);
        wire.SendWithDescriptors(" ", zero);
        wire.SendWithDescriptors(" ", nothing);
        await wire.SendAsync("{\"execute\": \"a\"}");
        Assert.Equal($"{{\"return\":[\"a\",\"{Null}\"]}}", await wire.ReadLineAsync());
    }

    [Fact]
    public async Task What_the_handler_does_not_claim_is_closed()
    {
        using var directory = new TemporaryFile();
        SafeFileHandle? kept = null;
        await using var server = new TestServer((c, _) =>
        {
            kept = c.Descriptors.Claim(0);
            Assert.Throws<InvalidOperationException>(() => c.Descriptors.Claim(0));
            Assert.Throws<InvalidOperationException>(() => c.Descriptors[0]);
            Assert.Throws<ArgumentOutOfRangeException>(() => c.Descriptors.Claim(3));
            return ValueTask.FromResult(QmpReply.Success());
        });
        using var wire = await server.ConnectNegotiatedAsync();
        using (var file = File.OpenHandle(directory.Path)) wire.SendWithDescriptors("{\"execute\": \"a\"}", file, file, file);
        Assert.Equal("{\"return\":{}}", await wire.ReadLineAsync());
        wire.SendWithDescriptors("garbage\n", kept!);
        await wire.ReadLineAsync();
        wire.SendWithDescriptors(" ", kept!);
        wire.FinishSending();
        Assert.Null(await wire.ReadLineAsync());
        await server.NextEndAsync();

        Assert.Equal(1, OpenCount(directory.Path));
        Assert.Equal(directory.Path, Target(kept!));
        kept!.Dispose();
        Assert.Equal(0, OpenCount(directory.Path));
    }

    [Fact]
    public async Task Nothing_leaks_when_a_connection_is_closed_with_commands_queued()
    {
        using var file = new TemporaryFile();
        var started = new ConcurrentQueue<TaskCompletionSource>([new(), new()]);
        var first = started.First();
        await using var server = new TestServer(async (_, ct) =>
        {
            if (started.TryDequeue(out var mark)) mark.SetResult();
            await Task.Delay(Timeout.Infinite, ct);
            return QmpReply.Success();
        });
        using var wire = await server.ConnectNegotiatedAsync(outOfBand: true);
        using (var handle = File.OpenHandle(file.Path))
        {
            for (var i = 0; i < 14; i++) wire.SendWithDescriptors($"{{\"execute\": \"c{i}\"}}", handle);
        }

        await first.Task.Soon();
        await Assert.Single(server.Server.Connections).DisposeAsync().AsTask().Soon();
        wire.Dispose();

        // What the kernel still holds in flight goes with the sockets; a collection of theirs is not ours to wait for.
        Assert.Equal(0, OpenCount(file.Path));
    }

    private static string? Target(SafeFileHandle descriptor) => new FileInfo($"/proc/self/fd/{descriptor.DangerousGetHandle()}").LinkTarget;

    private static int OpenCount(string path) =>
        Directory.GetFiles("/proc/self/fd").Count(f => new FileInfo(f).LinkTarget == path);
}
