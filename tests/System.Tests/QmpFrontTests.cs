using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>The VM's QMP socket as its clients see it, over updates.</summary>
public sealed class QmpFrontTests(SharedVm machine) : IClassFixture<SharedVm>
{
    [Fact]
    public async Task ManyClientsStayConnectedOverAnUpdate()
    {
        var vm = await machine.ReadyAsync();
        var clients = new List<QmpClient>();
        try
        {
            for (var i = 0; i < 5; i++)
                clients.Add(await vm.ConnectAsync());
            foreach (var engine in new[] { "transfer", "shared-ram" })
            {
                await vm.UpdateAsync(Components.Qemu111, engine);
                foreach (var client in clients)
                {
                    Assert.Equal(QmpClientState.Running, client.State);
                    Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
                }
            }
        }
        finally
        {
            foreach (var client in clients)
                await client.DisposeAsync();
        }
    }

    [Fact]
    public async Task CommandsDuringAnUpdateAreAllAnswered()
    {
        var vm = await machine.ReadyAsync();
        await using var client = await vm.ConnectAsync();
        using var update = vm.StartUpdate(Components.Qemu111);
        var queries = 0;
        var updating = update.ResultAsync();
        while (!updating.IsCompleted)
        {
            // A query passes at once except in the pause; a change waits for the end of the update. Both are answered.
            await client.ExecuteAsync("query-cpus-fast").WaitAsync(Deadlines.Settle);
            queries++;
            if (queries % 20 == 0)
                await client.ExecuteAsync("cont").WaitAsync(Deadlines.Settle);
        }

        vm.Report(await updating, 0);
        Assert.True(queries > 1);
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task ACommandInTheMiddleOfThePauseIsAnsweredByWhoeverRunsTheGuestThen()
    {
        var vm = await machine.ReadyAsync(pauseMs: SharedVm.LongPauseMs);
        await using var client = await vm.ConnectAsync();
        using var update = vm.StartUpdate(Components.Qemu111, fault: "commit.begin:hang");
        await vm.UntilUnderWayAsync("commit");
        var query = client.ExecuteAsync("query-status");
        var change = client.ExecuteAsync("system_wakeup");
        await vm.ReportAsync(update, 4);
        Assert.Equal("running", (await query.WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
        await Assert.ThrowsAsync<QmpException>(() => change.WaitAsync(Deadlines.Settle));
    }

    [Fact]
    public async Task TheUpdatesOwnEventsDoNotLeakAndItsPhasesArriveInOrder()
    {
        var vm = await machine.ReadyAsync();
        await using var client = await vm.ConnectAsync();
        using var all = client.Subscribe();
        foreach (var (engine, fault, outcome) in new[] { ("transfer", null, "updated"), ("shared-ram", null, "updated"), ("transfer", "commit.begin", "rolledBack") })
        {
            await vm.UpdateAsync(Components.Qemu111, engine, outcome == "updated" ? 0 : 4, fault);
            var seen = new List<QmpEvent>();
            while (seen.Count == 0 || !seen[^1].Data.TryGetProperty("outcome", out _))
                seen.Add(await all.NextAsync().WaitAsync(Deadlines.Settle));

            var foreign = seen.Where(e => e.Name != "__org.cprsharp_UPDATE").Select(e => e.Name);
            Assert.DoesNotContain(foreign, n => n is "STOP" or "RESUME" or "SHUTDOWN" or "MIGRATION" or "MIGRATION_PASS");
            string[] phases = [.. seen.Where(e => e.Data.TryGetProperty("phase", out _)).Select(e => e.Data.GetProperty("phase").GetString()!)];
            string[] order = ["inspect", "plan", "prepare", "pause", "transfer", "verify", "commit", "retire", "rollback"];
            Assert.Equal("inspect", phases[0]);
            Assert.Contains("prepare", phases);
            Assert.Equal(phases.OrderBy(p => Array.IndexOf(order, p)), phases);
            Assert.Equal(outcome, seen[^1].Data.GetProperty("outcome").GetString());
            Assert.True(seen[^1].Data.GetProperty("pause-ms").GetDouble() > 0);
        }
    }

    [Fact]
    public async Task TheGuestsOwnStopAndResumeStillArrive()
    {
        var vm = await machine.ReadyAsync();
        await vm.UpdateAsync(Components.Qemu111);
        await using var client = await vm.ConnectAsync();
        using var events = client.Subscribe("STOP", "RESUME");
        await client.ExecuteAsync("stop").WaitAsync(Deadlines.Settle);
        await client.ExecuteAsync("cont").WaitAsync(Deadlines.Settle);
        Assert.Equal("STOP", (await events.NextAsync().WaitAsync(Deadlines.Settle)).Name);
        Assert.Equal("RESUME", (await events.NextAsync().WaitAsync(Deadlines.Settle)).Name);
    }

    [Fact]
    public async Task APausedGuestStaysPausedOverAnUpdate()
    {
        var vm = await machine.ReadyAsync();
        await vm.QmpAsync("stop");
        try
        {
            foreach (var engine in new[] { "transfer", "shared-ram" })
            {
                var report = await vm.UpdateAsync(Components.Qemu111, engine);
                Assert.Equal(JsonValueKind.Null, report.GetProperty("pauseMs").ValueKind);
                Assert.Equal("paused", await vm.RunStateAsync());
            }

            await vm.UpdateAsync(Components.Qemu111, exitCode: 1, fault: "prepare.verified");
            Assert.Equal("paused", await vm.RunStateAsync());
        }
        finally
        {
            await vm.QmpAsync("cont");
        }

        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task OurCommandsAreListedAndUpdate()
    {
        var vm = await machine.ReadyAsync();
        var commands = (await vm.QmpAsync("query-commands")).EnumerateArray().Select(c => c.GetProperty("name").GetString()!).ToArray();
        foreach (var name in new[] { "check", "update", "rollback", "status" })
            Assert.Contains($"__org.cprsharp_{name}", commands);
        Assert.Contains("device_add", commands);

        var generation = vm.Generation;
        var to = new JsonObject { ["to"] = Components.Qemu111 };
        Documents.ExpectCheckReport(await vm.QmpAsync("__org.cprsharp_check", to), vm.Name, "ready");
        var planned = await vm.QmpAsync("__org.cprsharp_update", new JsonObject { ["to"] = Components.Qemu111, ["dry-run"] = true });
        Documents.ExpectUpdateReport(planned, vm.Name, 0);
        Assert.Equal("planned", planned.GetProperty("outcome").GetString());
        Assert.Equal(generation, vm.Generation);
        Documents.ExpectUpdateReport(
            await vm.QmpAsync("__org.cprsharp_update", new JsonObject { ["to"] = Components.Qemu111, ["engine"] = "shared-ram" }), vm.Name, 0);
        Documents.ExpectUpdateReport(await vm.QmpAsync("__org.cprsharp_rollback"), vm.Name, 0);
        Assert.Equal(generation + 2, vm.Generation);
        Assert.Equal("running", (await vm.QmpAsync("__org.cprsharp_status")).GetProperty("runState").GetString());

        foreach (var (command, arguments) in new[] { ("__org.cprsharp_update", new JsonObject()), ("__org.cprsharp_update", new JsonObject { ["to"] = 5 }), ("__org.cprsharp_nothing", []) })
            await Assert.ThrowsAsync<QmpException>(() => vm.QmpAsync(command, arguments));
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task OurCommandsAndEventAreInTheSchema()
    {
        var vm = await machine.ReadyAsync();
        var schema = QmpSchema.Parse(await vm.QmpAsync("query-qmp-schema"));
        foreach (var listed in (await vm.QmpAsync("query-commands")).EnumerateArray())
            Assert.True(schema.HasCommand(listed.GetProperty("name").GetString()!), $"{listed} is listed, and not in the schema");
        foreach (var argument in new[] { "to", "engine", "dry-run" })
            Assert.True(schema.HasArgument("__org.cprsharp_update", argument), argument);
        Assert.False(schema.HasArgument("__org.cprsharp_status", "to"));
        Assert.True(schema.HasEventData("__org.cprsharp_UPDATE", "pause-ms"));
        Assert.True(schema.HasArgument("migrate", "uri"));
    }

    [Fact]
    public async Task AVmThatQuitsAnswersAndSaysSoFirst()
    {
        await using var host = new TestHost();
        foreach (var round in Enumerable.Range(0, 5))
        {
            var vm = await TestVm.StartAsync(host, $"quitting-{round}", [Components.Qemu111, .. TestVm.Bare]);
            await using var client = await vm.ConnectAsync();
            await using var witness = await vm.ConnectAsync();
            using var seen = witness.Subscribe("SHUTDOWN");
            await client.ExecuteAsync("quit").WaitAsync(Deadlines.Settle);
            Assert.Equal("host-qmp-quit", (await seen.NextAsync().WaitAsync(Deadlines.Settle)).Data.GetProperty("reason").GetString());
        }

        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task DescriptorsGoThroughToTheVmm()
    {
        var vm = await machine.ReadyAsync();
        foreach (var round in new[] { 1, 2 })
        {
            await using var client = await vm.ConnectAsync();
            using var memory = Memfd.Memfd.Create($"through-the-front-{round}", 4096);
            var options = new QmpCommandOptions { Descriptors = [memory] };
            await client.ExecuteAsync("getfd", new JsonObject { ["fdname"] = "one" }, options).WaitAsync(Deadlines.Settle);
            var added = await client.ExecuteAsync("add-fd", new JsonObject { ["fdset-id"] = 7, ["opaque"] = "memory" }, options).WaitAsync(Deadlines.Settle);
            Assert.Equal(7, added.GetProperty("fdset-id").GetInt32());

            var held = ProcFs.Descriptors(vm.VmmPid).Count(d => d.Info.Path?.Contains($"through-the-front-{round}", StringComparison.Ordinal) == true);
            Assert.Equal(2, held);
            await client.ExecuteAsync("closefd", new JsonObject { ["fdname"] = "one" }).WaitAsync(Deadlines.Settle);
            await client.ExecuteAsync("remove-fd", new JsonObject { ["fdset-id"] = 7 }).WaitAsync(Deadlines.Settle);
            await vm.UpdateAsync(Components.Qemu111);
        }

        await vm.ExpectOneRunningVmmAsync();
        await vm.ExpectNoMoreDescriptorsAsync(machine.Descriptors);
    }

    [Fact]
    public async Task OutOfBandCommandsOvertake()
    {
        var vm = await machine.ReadyAsync();
        await vm.UpdateAsync(Components.Qemu111);
        await using var client = await vm.ConnectAsync();
        Assert.True(client.OutOfBandEnabled);

        // Nothing to pause or recover: QEMU's own answer is what shows that the command got through out of band.
        var e = await Assert.ThrowsAsync<QmpException>(() =>
            client.ExecuteAsync("migrate-pause", null, new QmpCommandOptions { OutOfBand = true }).WaitAsync(Deadlines.Settle));
        Assert.Equal("GenericError", e.ErrorClass.ToString());

        // While a change waits for the end of an update.
        using var update = vm.StartUpdate(Components.Qemu111, fault: "prepare.verified:hang");
        await Deadlines.EventuallyAsync(() => vm.Host.Processes().Count(p => p.IsVmm) == 2 ? null : "no new VMM");
        var held = client.ExecuteAsync("system_wakeup");
        await Assert.ThrowsAsync<QmpException>(() => client.ExecuteAsync("migrate-pause", null, new QmpCommandOptions { OutOfBand = true }).WaitAsync(Deadlines.Settle));
        Assert.False(held.IsCompleted);
        update.Signal(2);
        await vm.ReportAsync(update, 1);
        await Assert.ThrowsAsync<QmpException>(() => held.WaitAsync(Deadlines.Settle));
    }

    [Fact]
    public async Task AnUpdateIsStartedBySocat()
    {
        var vm = await machine.ReadyAsync();
        var generation = vm.Generation;
        var input = vm.Host.File("input");
        await File.WriteAllTextAsync(input, $$"""
            {"execute": "qmp_capabilities"}
            {"execute": "__org.cprsharp_update", "arguments": {"to": "{{Components.Qemu111}}"}, "id": "by-socat"}
            {"execute": "query-status"}

            """);
        using var socat = vm.Host.StartProgram("/bin/sh", null, null, ["-c", "exec socat -t 60 - UNIX-CONNECT:\"$1\" <\"$2\"", "sh", vm.QmpSocket, input]);
        var lines = (await socat.ResultAsync()).Expect(0).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        using var reply = JsonDocument.Parse(Assert.Single(lines, l => l.Contains("\"by-socat\"", StringComparison.Ordinal)));
        Documents.ExpectUpdateReport(reply.RootElement.GetProperty("return"), vm.Name, 0);
        Assert.Contains(lines, l => l.Contains("__org.cprsharp_UPDATE", StringComparison.Ordinal) && l.Contains("\"updated\"", StringComparison.Ordinal));
        Assert.Contains("\"running\"", lines[^1], StringComparison.Ordinal);
        Assert.Equal(generation + 1, vm.Generation);
    }

    [Fact]
    public async Task AnUpdateIsStartedByQemusOwnClientInPython()
    {
        var vm = await machine.ReadyAsync();
        var generation = vm.Generation;
        var script = vm.Host.File("client.py");
        await File.WriteAllTextAsync(script, """
            import asyncio, json, sys
            from qemu.qmp import QMPClient

            async def main(socket, to):
                client = QMPClient()
                await client.connect(socket)
                with client.listener('__org.cprsharp_UPDATE') as events:
                    report = await client.execute('__org.cprsharp_update', {'to': to})
                    seen = [(await events.get())['data']]
                    while 'outcome' not in seen[-1]:
                        seen.append((await events.get())['data'])
                status = await client.execute('query-status')
                await client.disconnect()
                print(json.dumps({'report': report, 'events': seen, 'status': status}))

            asyncio.run(main(*sys.argv[1:]))
            """);
        using var client = StartPython(vm, script, vm.QmpSocket, Components.Qemu111);
        var saw = (await client.ResultAsync()).Expect(0).Document;
        Documents.ExpectUpdateReport(saw.GetProperty("report"), vm.Name, 0);
        var events = saw.GetProperty("events").EnumerateArray().ToArray();
        Assert.Contains(events, e => e.TryGetProperty("phase", out var phase) && phase.GetString() == "prepare");
        Assert.Equal("updated", events[^1].GetProperty("outcome").GetString());
        Assert.Equal("running", saw.GetProperty("status").GetProperty("status").GetString());
        Assert.Equal(generation + 1, vm.Generation);
    }

    [Fact]
    public async Task AnUpdateIsStartedInQemusQmpShell()
    {
        var vm = await machine.ReadyAsync();
        var generation = vm.Generation;
        using var shell = StartPython(vm, "-m", "qemu.qmp.qmp_shell", vm.QmpSocket);
        shell.Type($"__org.cprsharp_update to={Components.Qemu111}\nquery-status\n");
        var answers = (await shell.ResultAsync()).Expect(0).Output.Split('\n').Where(l => l.Contains("{\"return\": ", StringComparison.Ordinal))
            .Select(l => JsonSerializer.Deserialize<JsonElement>(l[l.IndexOf('{', StringComparison.Ordinal)..]).GetProperty("return")).ToArray();
        Assert.Equal(2, answers.Length);
        Documents.ExpectUpdateReport(answers[0], vm.Name, 0);
        Assert.Equal("running", answers[1].GetProperty("status").GetString());
        Assert.Equal(generation + 1, vm.Generation);
    }

    private static RunningProgram StartPython(TestVm vm, params string[] arguments) => vm.Host.StartProgram(
        "/usr/bin/env", new Dictionary<string, string>(StringComparer.Ordinal) { ["PYTHONPATH"] = Components.PythonQmp, ["PYTHONDONTWRITEBYTECODE"] = "1", ["HOME"] = vm.Host.Root }, null, ["python3", .. arguments]);

    [Fact]
    public async Task AClientThatSendsGarbageHarmsNobody()
    {
        var vm = await machine.ReadyAsync();
        await using var good = await vm.ConnectAsync();
        using var socket = Memfd.UnixSocket.Connect(vm.QmpSocket);
        await socket.SendAsync("{\"execute\": [}}}}\0\xff garbage\r\n"u8.ToArray());
        var buffer = new byte[4096];
        await socket.ReceiveAsync(buffer).WaitAsync(Deadlines.Settle);
        socket.Close();
        Assert.Equal("running", (await good.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
    }
}
