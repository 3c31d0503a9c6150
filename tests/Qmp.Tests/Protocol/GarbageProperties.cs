using System.Text;
using CprSharp.Qmp.Tests.Client;
using CprSharp.Qmp.Tests.Server;
using FsCheck;
using FsCheck.Fluent;

namespace CprSharp.Qmp.Tests.Protocol;

/// <summary>Whatever a peer sends, nothing hangs, crashes or stays in a state without way out.</summary>
public sealed class GarbageProperties
{
    private static readonly Gen<string> s_token = Gen.Frequency(
        (6, Gen.Elements(
            "{", "}", "[", "]", "\"", "'", "\\", ",", ":", " ", "\r\n", "\n", "1", "-", "null", "true", "x", "\u0001", "ÿ",
            "\"id\"", "\"execute\"", "\"exec-oob\"", "\"arguments\"", "\"return\"", "\"error\"", "\"event\"", "\"QMP\"", "\"\\ud800\"", "\"enable\"", "\"oob\"")),
        (2, Gen.Elements(
            "{\"execute\": \"a\", \"id\": ", "{\"exec-oob\": \"a\"}", "{\"execute\": \"qmp_capabilities\"}", "{\"event\": \"E\"}", "{\"return\": {}, \"id\": 2}",
            "{\"error\": {\"class\": 1}, \"id\": 2}", "{'execute': 'b'}", "{\"event\": \"E\", \"timestamp\": {\"seconds\": 1e99, \"microseconds\": []}}")));

    private static readonly Gen<string[]> s_garbage = Gen.Choose(1, 40).SelectMany(n => Gen.ArrayOf(s_token, n));

    [Fact]
    public async Task A_server_answers_the_next_command_after_any_garbage()
    {
        await using var server = TestServer.Echo(o => o with { MaxMessageBytes = 1024 });
        foreach (var garbage in s_garbage.Sample(150))
        {
            using var wire = await server.ConnectNegotiatedAsync(outOfBand: garbage.Length % 2 == 0);
            foreach (var piece in garbage) await wire.SendAsync(Encoding.Latin1.GetBytes(piece));
            await wire.SendAsync([0xFF, .. "\n{\"execute\": \"next\", \"id\": \"the end\"}"u8]);
            string? line;
            while (!(line = await wire.ReadLineAsync())!.Contains("\"the end\"", StringComparison.Ordinal)) Assert.NotNull(line);
        }

        Assert.Empty(server.Failures);
    }

    [Fact]
    public async Task A_client_comes_to_an_end_after_any_garbage_and_can_connect_again()
    {
        await using var client = new QmpClient(new QmpClientOptions { MaxMessageBytes = 1024 });
        foreach (var garbage in s_garbage.Sample(150))
        {
            var vmm = await FakeVmm.StartAsync(client: client);
            using var events = client.Subscribe();
            var call = client.ExecuteAsync("a");
            await vmm.ExpectAsync("a");
            try
            {
                foreach (var piece in garbage) await vmm.Wire.SendAsync(Encoding.Latin1.GetBytes(piece));
            }
            catch (System.Net.Sockets.SocketException)
            {
                // The client has had enough already.
            }

            vmm.Wire.Dispose();
            var cause = await Assert.ThrowsAsync<QmpConnectionException>(() => client.Completion.Soon());
            Assert.NotEqual(QmpConnectionFailure.Disconnected, cause.Failure);
            // Garbage may hold an answer to the command.
            var outcome = await Record.ExceptionAsync(() => call.Soon());
            Assert.True(outcome is null or QmpException or QmpConnectionException, outcome?.ToString());
            await Assert.ThrowsAsync<QmpConnectionException>(() => events.NextAsync(_ => false).Soon());
        }

        await FakeVmm.AssertReconnectsAsync(client);
    }
}
