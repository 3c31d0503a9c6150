using System.Globalization;
using System.Net.Sockets;
using System.Text;
using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Consoles stay connected over updates, and no byte is lost, doubled or out of place in either direction.</summary>
public sealed class ConsoleTests
{
    [Fact]
    public async Task StreamsInBothDirectionsAreWholeOverManyUpdates()
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var port = Endpoint.FreePort();
        var vm = await TestVm.StartAsync(host, "streams",
        [
            Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci",
            "-serial", $"unix:{host.File("s1")},server=on,wait=off",
            "-serial", "pty",
            "-chardev", $"socket,id=agent,host=127.0.0.1,port={port},server=on,wait=off", "-device", "virtserialport,chardev=agent,name=agent.0",
            "-chardev", $"socket,id=hvc,path={host.File("hvc")},server=on,wait=off", "-device", "virtconsole,chardev=hvc",
        ]);
        await guest.ReadyAsync();
        Assert.Contains("4", await guest.AskAsync("streams echo", "streams"), StringComparison.Ordinal);
        using var tcp = new TcpClient("127.0.0.1", port);
        var terminal = await TerminalAsync(vm, "serial2");
        await using var agent = new EchoStream("virtserialport", tcp.Client, 32 << 10);
        await using var serial = new EchoStream("serial", UnixSocket.Connect(host.File("s1")), 512);
        await using var pty = EchoStream.Terminal("pty", terminal, 512);
        await using var console = new EchoStream("virtconsole", UnixSocket.Connect(host.File("hvc")), 512);
        EchoStream[] all = [agent, serial, pty, console];

        foreach (var step in UpdateSchedule.Of("prepare.verified", "pause.begin", "transfer.end", "commit.begin"))
        {
            foreach (var stream in all)
                await stream.ExpectMoreAsync(100);
            await step.RunAsync(vm);
        }

        foreach (var stream in all)
            await stream.ExpectMoreAsync(1000);
        foreach (var stream in all)
            await stream.ExpectAllBackAsync();
        Assert.Equal(terminal, await TerminalAsync(vm, "serial2"));
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
        Assert.False(File.Exists(host.File("s1")));
    }

    /// <summary>The guest is stopped in the middle of a byte that finds no room: neither VMM may send it twice, or not at all.</summary>
    [Fact]
    public async Task AReaderWhoDoesNotReadLosesNothing()
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "slow",
        [
            Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci",
            "-serial", $"unix:{host.File("s1")},server=on,wait=off",
            "-chardev", $"socket,id=agent,path={host.File("agent")},server=on,wait=off", "-device", "virtserialport,chardev=agent,name=agent.0",
        ]);
        await guest.ReadyAsync();
        using var serial = UnixSocket.Connect(host.File("s1"));
        using var agent = UnixSocket.Connect(host.File("agent"));
        await Deadlines.EventuallyAsync(async () => (await vm.HumanAsync("info qtree")).Contains("host on", StringComparison.Ordinal) ? null : "not connected");
        await guest.AskAsync("streams numbers", "streams");
        (Socket Socket, StringBuilder Text, int Last)[] readers = [(serial, new(), 60_000), (agent, new(), 300_000)];
        foreach (var engine in new[] { "transfer", "shared-ram", "transfer" })
        {
            foreach (var (socket, _, _) in readers)
                await BlockedAsync(socket);
            await vm.UpdateAsync(Components.Qemu111, engine);
            await vm.UpdateAsync(Components.Qemu111, engine, exitCode: 4, fault: "commit.begin");
            foreach (var (socket, text, _) in readers)
                await ReadAsync(socket, text, text.Length + 50_000);
        }

        foreach (var (socket, text, last) in readers)
        {
            var expected = string.Concat(Enumerable.Range(1, last).Select(n => n.ToString($"D{last.ToString(CultureInfo.InvariantCulture).Length}", CultureInfo.InvariantCulture) + "\n"));
            await ReadAsync(socket, text, expected.Length);
            var got = text.ToString();
            var same = expected.Zip(got).TakeWhile(p => p.First == p.Second).Count();
            Assert.True(got == expected, $"{got.Length} bytes instead of {expected.Length}; from byte {same}: {got[same..Math.Min(got.Length, same + 40)]}");
        }

        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();

        static async Task BlockedAsync(Socket socket)
        {
            var before = -1;
            await Deadlines.EventuallyAsync(async () =>
            {
                await Task.Delay(150);
                var stands = socket.Available > 0 && socket.Available == before;
                before = socket.Available;
                return stands ? null : "the guest goes on sending";
            });
        }

        static async Task ReadAsync(Socket socket, StringBuilder text, int length)
        {
            var buffer = new byte[16 << 10];
            while (text.Length < length)
            {
                using var deadline = new CancellationTokenSource(Deadlines.Program);
                int count;
                try
                {
                    count = await socket.ReceiveAsync(buffer.AsMemory(0, Math.Min(buffer.Length, length - text.Length)), deadline.Token);
                }
                catch (OperationCanceledException)
                {
                    Assert.Fail($"silent after {text.Length} bytes of {length}: {FirstGap(text.ToString())}");
                    throw;
                }

                Assert.True(count > 0, $"closed after {text.Length} bytes");
                text.Append(Encoding.ASCII.GetString(buffer, 0, count));
            }
        }
    }

    /// <summary>QEMU tells the guest whether somebody is there, and a reader the end of the connection.</summary>
    [Fact]
    public async Task TheGuestSeesClientsComeAndGo()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "ports",
        [
            Components.Qemu111, .. TestVm.Bare, "-device", "virtio-serial-pci",
            "-chardev", $"socket,id=agent,path={host.File("agent")},server=on,wait=off", "-device", "virtserialport,chardev=agent,name=agent.0",
        ]);
        for (var round = 0; round < 3; round++)
        {
            Assert.Equal($"disconnected:unix:{host.File("agent")},server=on", await NameAsync());
            using (var first = UnixSocket.Connect(host.File("agent")))
            {
                await ExpectHostAsync("on");
                Assert.Equal($"unix:{host.File("agent")},server=on", await NameAsync());
                await vm.UpdateAsync(Components.Qemu111);
                await ExpectHostAsync("on");

                // One after the other, as QEMU has it.
                using var second = UnixSocket.Connect(host.File("agent"));
                await first.SendAsync("to nobody"u8.ToArray());
                first.Dispose();
                await ExpectHostAsync("on");
            }

            await ExpectHostAsync("off");
            await vm.UpdateAsync(Components.Qemu111);
            await ExpectHostAsync("off");
        }

        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();

        Task ExpectHostAsync(string state) => Deadlines.EventuallyAsync(async () =>
            (await vm.HumanAsync("info qtree")) is var tree && tree.Contains($"host {state}", StringComparison.Ordinal) ? null : $"not {state}: {tree}");

        async Task<string> NameAsync() => await NameOfAsync(vm, "agent");
    }

    /// <summary>A monitor greets once, and a line that was begun before an update is ended after it.</summary>
    [Theory]
    [InlineData("unix")]
    [InlineData("telnet")]
    public async Task AMonitorsLineSurvives(string kind)
    {
        await using var host = new TestHost();
        var port = Endpoint.FreePort();
        var vm = await TestVm.StartAsync(host, "monitor",
            [Components.Qemu111, .. TestVm.Bare, "-monitor", kind == "unix" ? $"unix:{host.File("mon")},server,nowait" : $"telnet:127.0.0.1:{port},server,nowait"]);
        using var monitor = kind == "unix" ? UnixSocket.Connect(host.File("mon")) : new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        if (kind == "telnet")
            await monitor.ConnectAsync("127.0.0.1", port);
        var greeting = await UntilPromptAsync(monitor);
        Assert.Contains("QEMU", greeting, StringComparison.Ordinal);
        Assert.Equal(kind == "telnet", greeting.Contains('\xff', StringComparison.Ordinal));
        for (var round = 0; round < 3; round++)
        {
            await monitor.SendAsync("info st"u8.ToArray());
            await vm.UpdateAsync(Components.Qemu111);
            await vm.UpdateAsync(Components.Qemu111, exitCode: 4, fault: "commit.begin");
            await monitor.SendAsync("atus\n"u8.ToArray());
            var answer = await UntilPromptAsync(monitor);
            Assert.Contains("VM status: running", answer, StringComparison.Ordinal);
            Assert.DoesNotContain("QEMU", answer, StringComparison.Ordinal);
            Assert.DoesNotContain("unknown", answer, StringComparison.Ordinal);
            Assert.DoesNotContain('\xff', answer);
        }

        // Whoever has no more to say still gets the answer.
        await monitor.SendAsync("info version\n"u8.ToArray());
        monitor.Shutdown(SocketShutdown.Send);
        var last = "";
        var buffer = new byte[4096];
        while (await monitor.ReceiveAsync(buffer).WaitAsync(Deadlines.Settle) is > 0 and var count)
            last += Encoding.Latin1.GetString(buffer, 0, count);
        Assert.Contains("\n11.", last, StringComparison.Ordinal);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>A pty's name cannot be had again: its guardian keeps it, also that of another build and one that another guardian became.</summary>
    [Fact]
    public async Task APtyAndWhoHasItOpenOutliveItsSupervisors()
    {
        await using var host = new TestHost();
        var link = host.File("terminal");
        var vm = await TestVm.StartAsync(host, "pty", [Components.Qemu111, .. TestVm.Bare, "-chardev", $"pty,id=mon,path={link}", "-mon", "chardev=mon"]);
        var path = await TerminalAsync(vm, "mon");
        await using var input = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0);
        await using var output = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
        await ExpectAnswerAsync();
        foreach (var reexec in new[] { false, false, true })
        {
            if (reexec)
                (await host.CprSharpAsync("reexec", vm.Name)).Expect(0);
            var former = vm.SupervisorPid;
            using (var supervisor = PidFd.Open(former))
                supervisor.Signal(9);
            await Deadlines.EventuallyAsync(() => vm.SupervisorPid == former ? $"nobody took the VM over\n{vm.Logs()}" : null);
            (await host.CprSharpAsync("adopt", vm.Name)).Expect(0);
            Assert.Equal(path, await TerminalAsync(vm, "mon"));
            Assert.Equal(path, new FileInfo(link).LinkTarget);
            await ExpectAnswerAsync();
            await vm.UpdateAsync(Components.Qemu111);
            await ExpectAnswerAsync();
        }

        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
        Assert.False(Path.Exists(link));

        async Task ExpectAnswerAsync()
        {
            await output.WriteAsync("info status\n"u8.ToArray());
            var said = "";
            var buffer = new byte[4096];
            while (!said.Contains("VM status: running", StringComparison.Ordinal))
            {
                var count = await Task.Run(() => input.Read(buffer)).WaitAsync(Deadlines.Program);
                Assert.True(count > 0, $"the pty hung up after: {said}");
                said += Encoding.Latin1.GetString(buffer, 0, count);
            }
        }
    }

    [Fact]
    public async Task WhatWasStoredForAPtyAndIsNoneIsPutAside()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "foreign", [Components.Qemu111, .. TestVm.Bare, "-chardev", "pty,id=mon", "-mon", "chardev=mon"], SharedVm.Environment(guardian: false));
        using (var supervisor = PidFd.Open(vm.SupervisorPid))
            supervisor.Signal(9);
        const string Script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=console-mon exec \"$0\" adopt \"$1\" --foreground 3<\"$0\"";
        using var adopt = host.StartProgram("/bin/sh", SharedVm.Environment(guardian: false), null, ["-c", Script, Components.CprSharp, vm.Name]);
        await Deadlines.EventuallyAsync(() => vm.SupervisorPid == adopt.Pid ? null : "nobody took the VM over");
        await using (var terminal = new FileStream(await TerminalAsync(vm, "mon"), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0))
            await vm.UpdateAsync(Components.Qemu111);
        await vm.QuitAsync();
        Assert.Contains("the descriptor kept as console-mon is put aside", (await adopt.ResultAsync()).ToString(), StringComparison.Ordinal);
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>With <c>wait=on</c>, QEMU's default, the guest says nothing that its client does not hear.</summary>
    [Fact]
    public async Task AGuestThatWaitsForItsClientIsHeardFromTheFirstByteToTheLast()
    {
        await using var host = new TestHost();
        string[] bios = ["-M", "pc-q35-10.0", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"];
        using var run = host.Start(null, ["run", "--name", "waits", "--detach", "--", Components.Qemu111, .. bios, "-serial", $"unix:{host.File("serial")},server", "-kernel", Components.GuestKernel, "-append", "console=ttyS0 earlyprintk=serial panic=-1"]);
        await Deadlines.EventuallyAsync(() => File.Exists(host.File("serial")) ? null : "no socket");
        Assert.False(run.HasExited);
        using var serial = UnixSocket.Connect(host.File("serial"));
        (await run.ResultAsync()).Expect(0);
        var text = new StringBuilder();
        var buffer = new byte[4096];
        while (await serial.ReceiveAsync(buffer).WaitAsync(Deadlines.Guest) is > 0 and var count)
            text.Append(Encoding.ASCII.GetString(buffer, 0, count));
        Assert.Contains("Linux version", text.ToString(), StringComparison.Ordinal);
        Assert.Contains("Kernel panic", text.ToString(), StringComparison.Ordinal);
        await host.ExpectNothingLeftAsync();
    }

    private static string FirstGap(string text)
    {
        var numbers = text.Split('\n');
        for (var i = 1; i < numbers.Length; i++)
        {
            if (int.TryParse(numbers[i - 1], out var before) && (!int.TryParse(numbers[i], out var next) || next != before + 1))
                return $"after {numbers[i - 1]} comes {string.Join(' ', numbers[i..Math.Min(numbers.Length, i + 3)])}";
        }

        return "in order";
    }

    private static async Task<string> UntilPromptAsync(Socket monitor)
    {
        var text = "";
        var buffer = new byte[4096];
        while (!text.EndsWith("(qemu) ", StringComparison.Ordinal))
        {
            var count = await monitor.ReceiveAsync(buffer).WaitAsync(Deadlines.Settle);
            Assert.True(count > 0, $"closed after: {text}");
            text += Encoding.Latin1.GetString(buffer, 0, count);
        }

        return text;
    }

    private static async Task<string> TerminalAsync(TestVm vm, string id) => (await NameOfAsync(vm, id))["pty:".Length..];

    private static async Task<string> NameOfAsync(TestVm vm, string id) =>
        (await vm.QmpAsync("query-chardev")).EnumerateArray().Single(c => c.GetProperty("label").GetString() == id).GetProperty("filename").GetString()!;
}
