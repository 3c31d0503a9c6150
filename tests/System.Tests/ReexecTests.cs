using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>The supervisor replaced by another build of itself, in the same process and with every connection.</summary>
public sealed class ReexecTests
{
    [Fact]
    public async Task ClientsStayConnectedOverManyReplacementsAndAnUpdate()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        var (supervisor, vmm) = (vm.SupervisorPid, vm.VmmPid);
        await using var client = await vm.ConnectAsync();
        using var events = client.Subscribe("STOP", "RESUME");
        using var monitor = UnixSocket.Connect(host.File("hmp"));
        await UntilAsync(monitor, "(qemu) ");
        await ReexecAsync(vm);
        var descriptors = vm.SupervisorDescriptors();
        for (var round = 0; round < 5; round++)
        {
            var report = await ReexecAsync(vm);
            Assert.Equal(supervisor, report.GetProperty("pid").GetInt32());
            Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
            await client.ExecuteAsync("stop").WaitAsync(Deadlines.Settle);
            await client.ExecuteAsync("cont").WaitAsync(Deadlines.Settle);
            Assert.Equal("STOP", (await events.NextAsync().WaitAsync(Deadlines.Settle)).Name);
            Assert.Equal("RESUME", (await events.NextAsync().WaitAsync(Deadlines.Settle)).Name);
            await monitor.SendAsync("info name\n"u8.ToArray());
            Assert.Contains("info name", await UntilAsync(monitor, "(qemu) "), StringComparison.Ordinal);
            Assert.Equal((supervisor, vmm), (vm.SupervisorPid, vm.VmmPid));
            await vm.ExpectNoMoreDescriptorsAsync(descriptors);
        }

        foreach (var engine in new[] { "transfer", "shared-ram" })
        {
            await vm.UpdateAsync(Components.Qemu111, engine);
            await ReexecAsync(vm);
            Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
            await monitor.SendAsync("info name\n"u8.ToArray());
            await UntilAsync(monitor, "(qemu) ");
        }

        Assert.Equal(QmpClientState.Running, client.State);
        Assert.Equal(2, (await vm.HistoryAsync()).Length);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task NoByteOfAConsoleIsLostOrDoubled()
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "reexec",
        [
            Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci",
            "-serial", $"unix:{host.File("s1")},server=on,wait=off", "-serial", "pty",
            "-chardev", $"socket,id=agent,path={host.File("agent")},server=on,wait=off", "-device", "virtserialport,chardev=agent,name=agent.0",
        ]);
        await guest.ReadyAsync();
        await guest.AskAsync("streams echo", "streams");
        var terminal = (await vm.QmpAsync("query-chardev")).EnumerateArray()
            .Single(c => c.GetProperty("label").GetString() == "serial2").GetProperty("filename").GetString()!["pty:".Length..];
        await using var serial = new EchoStream("serial", UnixSocket.Connect(host.File("s1")), 512);
        await using var agent = new EchoStream("virtserialport", UnixSocket.Connect(host.File("agent")), 32 << 10);
        await using var pty = EchoStream.Terminal("pty", terminal, 512);
        EchoStream[] all = [serial, agent, pty];
        for (var round = 0; round < 5; round++)
        {
            foreach (var stream in all)
                await stream.ExpectMoreAsync(100);
            await ReexecAsync(vm);
        }

        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await ReexecAsync(vm);
        foreach (var stream in all)
            await stream.ExpectMoreAsync(100);
        foreach (var stream in all)
            await stream.ExpectAllBackAsync();
        await guest.ExpectUnharmedAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task TapDevicesStayTheGuestsAndAreExchangedByTheProgramAfter()
    {
        await using var host = new TestHost();
        await using var network = await NetworkNamespace.CreateAsync($"cprst-{Guid.NewGuid():N}"[..14]);
        var guest = new LinuxGuest(host);
        var vm = await TapVm.StartAsync(host, network, guest, queues: 2);
        await using var tcp = new EchoStream("tcp", await TapVm.ConnectAsync(network), 64 << 10);
        for (var round = 0; round < 3; round++)
        {
            await tcp.ExpectMoreAsync(64 << 10);
            await ReexecAsync(vm);
            await vm.UpdateAsync(Components.Qemu111, round == 1 ? "shared-ram" : "transfer");
            await vm.UpdateAsync(Components.Qemu111, exitCode: 4, fault: "commit.begin");
        }

        await ReexecAsync(vm);
        await tcp.ExpectMoreAsync(64 << 10);
        await tcp.ExpectAllBackAsync();
        await vm.ExpectOneRunningVmmAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task CommandsAndPiecesOfCommandsAreCarriedAlong()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        using var raw = UnixSocket.Connect(vm.QmpSocket);
        await UntilAsync(raw, "\r\n");
        await SendAsync(raw, """{"execute":"qmp_capabilities"}""");
        await UntilAsync(raw, "\r\n");
        await using var client = await vm.ConnectAsync();
        var answered = 0;
        for (var round = 0; round < 5; round++)
        {
            // Half of a command is with the supervisor that is replaced, the other half comes to the one after it.
            var (head, tail) = ("""{"execute": "query-name", "id": "na""", $"me-{round}\"}}\n");
            await SendAsync(raw, head);

            var replacing = ReexecAsync(vm);
            while (!replacing.IsCompleted)
            {
                await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle);
                answered++;
            }

            await replacing;
            await SendAsync(raw, tail);
            Assert.Contains($"\"name-{round}\"", await UntilAsync(raw, "\r\n"), StringComparison.Ordinal);
        }

        Assert.True(answered > 5);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AClientThatDoesNotReadGetsEveryAnswerAfterwards()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        using var slow = UnixSocket.Connect(vm.QmpSocket);
        await SendAsync(slow, """{"execute":"qmp_capabilities"}""");
        const int Commands = 60; // some 200 KiB each: far more than a socket holds
        var sending = Task.Run(async () =>
        {
            for (var i = 0; i < Commands; i++)
                await SendAsync(slow, $$"""{"execute":"query-qmp-schema","id":{{i}}}""");
        });
        await sending.WaitAsync(Deadlines.Settle);
        for (var round = 0; round < 3; round++)
            await ReexecAsync(vm);

        using var stream = new NetworkStream(slow, ownsSocket: false);
        using var reader = new StreamReader(stream);
        await reader.ReadLineAsync().WaitAsync(Deadlines.Settle);
        await reader.ReadLineAsync().WaitAsync(Deadlines.Settle);
        for (var i = 0; i < Commands; i++)
        {
            using var reply = JsonDocument.Parse((await reader.ReadLineAsync().WaitAsync(Deadlines.Settle))!);
            Assert.Equal(i, reply.RootElement.GetProperty("id").GetInt32());
            Assert.True(reply.RootElement.GetProperty("return").GetArrayLength() > 1000);
        }

        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AProgramThatDoesNotFitIsRefusedAndNothingChanges()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        await using var client = await vm.ConnectAsync();
        var descriptors = vm.SupervisorDescriptors();
        var newer = Fake(host, "newer", """{"program":"cprsharp","version":"9.0.0","oldest":2,"newest":9,"record":9}""", "exit 1");
        var stranger = host.Script("stranger", "echo hello");
        foreach (var (to, code) in new[]
        {
            (host.File("absent"), "program-missing"), (newer, "program-schema"), (stranger, "program-not-cprsharp"),
            (Components.Qemu111, "program-not-cprsharp"), ("/etc/passwd", "program-not-cprsharp"),
        })
        {
            var report = (await host.CprSharpAsync("reexec", vm.Name, "--to", to, "--json")).Expect(3).Document;
            Assert.Equal("refused", report.GetProperty("outcome").GetString());
            Assert.Equal(code, report.GetProperty("error").GetProperty("code").GetString());
        }

        Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
        await vm.ExpectNoMoreDescriptorsAsync(descriptors);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AnExecThatFailsLeavesEverythingAsItWas()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        await using var client = await vm.ConnectAsync();
        using var monitor = UnixSocket.Connect(host.File("hmp"));
        await UntilAsync(monitor, "(qemu) ");
        var descriptors = vm.SupervisorDescriptors();

        // It answers the question, and is then gone: only the exec itself can fail.
        var vanishing = host.Script("vanishing", $"rm \"$0\"; exec '{Components.CprSharp}' \"$@\"");
        var report = (await host.CprSharpAsync("reexec", vm.Name, "--to", vanishing, "--json")).Expect(1).Document;
        Assert.Equal("failed", report.GetProperty("outcome").GetString());
        Assert.Contains("execve", report.GetProperty("error").GetProperty("message").GetString(), StringComparison.Ordinal);

        Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
        await monitor.SendAsync("info name\n"u8.ToArray());
        await UntilAsync(monitor, "(qemu) ");
        await vm.ExpectNoMoreDescriptorsAsync(descriptors);
        await vm.UpdateAsync(Components.Qemu111);
        await ReexecAsync(vm);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Theory]
    [InlineData("exit 1")]
    [InlineData("exec sleep 600")] // until SIGALRM
    public async Task TheGuardianTakesOverFromAProgramThatStartsAndFails(string failure)
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        var (supervisor, vmm) = (vm.SupervisorPid, vm.VmmPid);
        var broken = Fake(host, "broken", (await host.CprSharpAsync("supervisor-state")).Expect(0).Output, failure);
        var result = (await host.CprSharpAsync("reexec", vm.Name, "--to", broken)).Expect(1);
        Assert.Contains("the guardian has taken the VM over", result.Errors, StringComparison.Ordinal);
        Assert.NotEqual(supervisor, vm.SupervisorPid);
        Assert.Equal(vmm, vm.VmmPid);
        await vm.ExpectOneRunningVmmAsync();
        await ReexecAsync(vm);
        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AnUpdateUnderWayAndAReplacementExcludeEachOther()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        using var update = vm.StartUpdate(Components.Qemu111, fault: "prepare.verified:hang");
        await Deadlines.EventuallyAsync(() => host.Processes().Count(p => p.IsVmm) == 2 ? null : "no new VMM");
        var report = (await host.CprSharpAsync("reexec", vm.Name, "--json")).Expect(75).Document;
        Assert.Equal("busy", report.GetProperty("error").GetProperty("code").GetString());
        update.Signal(2);
        await vm.ReportAsync(update, 1);
        await ReexecAsync(vm);
        await vm.UpdateAsync(Components.Qemu111);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task TheGuestsEndAndASignalAreSeenByTheProgramAfter()
    {
        await using var host = new TestHost();
        using var run = host.Start(null, ["run", "--name", "foreground", "--", Components.Qemu111, .. TestVm.Bare]);
        var vm = new TestVm(host, "foreground");
        await Deadlines.EventuallyAsync(() => File.Exists(vm.QmpSocket) ? null : "no VM");
        await ReexecAsync(vm);
        Assert.Equal(run.Pid, vm.SupervisorPid);
        run.Signal(15);
        Assert.Equal(0, (await run.ResultAsync()).ExitCode); // QEMU's own: it is waited for by the program after
        await host.ExpectNothingLeftAsync();

        using var second = host.Start(null, ["run", "--name", "killed", "--", Components.Qemu111, .. TestVm.Bare]);
        vm = new TestVm(host, "killed");
        await Deadlines.EventuallyAsync(() => File.Exists(vm.QmpSocket) ? null : "no VM");
        await ReexecAsync(vm);
        using (var vmm = PidFd.Open(vm.VmmPid))
            vmm.Signal(9);
        Assert.Equal(128 + 9, (await second.ResultAsync()).ExitCode);
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AnAdoptedVmsSupervisorIsReplacedToo()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        await TestHost.EndAsync(vm.SupervisorPid);
        await Deadlines.EventuallyAsync(async () => (await host.CprSharpAsync("status", vm.Name, "--json")).Output.Contains("\"supervised\"", StringComparison.Ordinal) ? null : "nobody took over");
        await using var client = await vm.ConnectAsync();
        await ReexecAsync(vm);
        Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());
        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AnyClientCanAskForItAndGetsTheAnswer()
    {
        await using var host = new TestHost();
        var vm = await StartAsync(host);
        await using var client = await vm.ConnectAsync();
        for (var round = 0; round < 3; round++)
        {
            var report = await client.ExecuteAsync("__org.cprsharp_reexec", new JsonObject { ["to"] = Components.CprSharp }).WaitAsync(Deadlines.Program);
            Assert.Equal("replaced", report.GetProperty("outcome").GetString());
        }

        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    private static Task<TestVm> StartAsync(TestHost host) =>
        TestVm.StartAsync(host, "reexec", [Components.Qemu111, .. TestVm.Bare, "-monitor", $"unix:{host.File("hmp")},server=on,wait=off"]);

    private static async Task<JsonElement> ReexecAsync(TestVm vm)
    {
        var result = await vm.Host.CprSharpAsync("reexec", vm.Name, "--json");
        Assert.True(result.ExitCode == 0, $"{result}\n{vm.Logs()}");
        Assert.Equal("replaced", result.Document.GetProperty("outcome").GetString());
        return result.Document;
    }

    /// <summary>A program that says what it is asked to say, and does something else when it is to supervise.</summary>
    private static string Fake(TestHost host, string name, string answer, string failure) =>
        host.Script(name, $"if [ \"$1\" = supervisor-state ]; then echo '{answer}'; exit 0; fi\nif [ -z \"$CPRSHARP_SUPERVISOR_STATE\" ]; then exec '{Components.CprSharp}' \"$@\"; fi\n{failure}");

    private static Task<int> SendAsync(Socket socket, string text) => socket.SendAsync(Encoding.ASCII.GetBytes(text));

    private static async Task<string> UntilAsync(Socket socket, string end)
    {
        var text = "";
        var buffer = new byte[64 << 10];
        while (!text.EndsWith(end, StringComparison.Ordinal))
        {
            var count = await socket.ReceiveAsync(buffer).WaitAsync(Deadlines.Settle);
            Assert.True(count > 0, $"closed after: {text}");
            text += Encoding.Latin1.GetString(buffer, 0, count);
        }

        return text;
    }
}
