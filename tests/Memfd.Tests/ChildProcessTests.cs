using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class ChildProcessTests
{
    private static readonly ChildProcessStart Shell = new() { Path = "/bin/sh" };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Has_exactly_the_descriptors_that_were_named()
    {
        using var memfd = Memfd.Create("inherited", 4096);
        using var careless = Native.EventFd();
        Native.ClearCloseOnExec(careless);
        await using var running = await RunningChild.StartAtRestAsync(Shell with { Descriptors = [new(memfd, 40), new(memfd, 3)] }, Ct);
        var child = running.Process;

        var descriptors = ProcFs.Descriptors(child.Pid);

        Assert.Equal([0, 1, 2, 3, 40], descriptors.Select(d => d.Number));
        Assert.Equal("/dev/null", descriptors[0].Info.Path);
        Assert.All(descriptors.Skip(3), d => Assert.Equal(DescriptorInfo.Of(memfd).Inode, d.Info.Inode));
        Assert.All(descriptors.Skip(3), d => Assert.False(d.Info.CloseOnExec));
    }

    [Fact]
    public async Task Numbers_that_are_in_use_here_collide_with_nothing()
    {
        // Every number from 3 on is wanted, those of the sources and those that the next descriptors here get included; and
        // backwards, so that what comes first is needed last.
        var memfds = Enumerable.Range(0, 40).Select(size => Memfd.Create("source", size)).ToArray();
        var highest = memfds.Max(memfd => (int)memfd.DangerousGetHandle()) + memfds.Length;
        var wanted = Enumerable.Range(3, highest - 2).ToDictionary(number => number, number => memfds[(highest - number) % memfds.Length]);
        await using var running = await RunningChild.StartAtRestAsync(
            Shell with { Descriptors = [.. wanted.OrderByDescending(d => d.Key).Select(d => new InheritedDescriptor(d.Value, d.Key))] }, Ct);

        var inodes = ProcFs.Descriptors(running.Process.Pid).Where(d => d.Number > 2).Select(d => (d.Number, d.Info.Inode));

        Assert.Equal(wanted.OrderBy(d => d.Key).Select(d => (d.Key, DescriptorInfo.Of(d.Value).Inode)), inodes);
        Array.ForEach(memfds, memfd => memfd.Dispose());
    }

    [Fact]
    public async Task Every_signal_is_at_its_default_and_none_is_blocked()
    {
        const ulong sigpipe = 1UL << (13 - 1);
        Assert.NotEqual(0UL, ProcFs.Status(Environment.ProcessId).Signals.Ignored & sigpipe); // the runtime ignores it
        await using var running = new RunningChild(Children.Sleep);
        var child = running.Process;

        var signals = ProcFs.Status(child.Pid).Signals;

        Assert.Equal(new SignalSets(0, 0, 0), signals);
    }

    [Theory]
    [InlineData("exit 0", "exit status 0")]
    [InlineData("exit 255", "exit status 255")]
    [InlineData("kill -SEGV $$", "killed by SIGSEGV")]
    [InlineData("kill -TERM $$", "killed by SIGTERM")]
    public async Task Exit_status_says_how_it_ended(string script, string expected)
    {
        await using var child = ChildProcess.Start(Children.Shell(script));

        Assert.Equal(expected, (await child.Exited.WaitAsync(Ct)).ToString());
    }

    [Fact]
    public async Task Signals_reach_it_until_it_is_gone()
    {
        await using var running = new RunningChild(Children.Sleep);
        var child = running.Process;
        Assert.False(child.Exited.IsCompleted);
        Assert.False(child.PidFd.HasExited);

        child.Signal(Children.SIGTERM);

        Assert.Equal(new ExitStatus(null, Children.SIGTERM), await child.Exited.WaitAsync(Ct));
        Assert.True(child.PidFd.HasExited);
        Assert.Equal(Errno.ESRCH, Assert.Throws<SyscallException>(() => child.Signal(0)).Errno);
    }

    [Fact]
    public async Task Stands_still_until_it_is_resumed()
    {
        await using var running = new RunningChild(Children.Shell("while :; do :; done"));
        var child = running.Process;

        Assert.True(await child.StopAsync().WaitAsync(Ct));
        Assert.Equal('T', State(child.Pid));
        Assert.True(await child.StopAsync().WaitAsync(Ct)); // it stands already
        child.Resume();
        Assert.Equal('R', State(child.Pid));

        Assert.True(await child.StopAsync().WaitAsync(Ct));
        child.Signal(Children.SIGKILL);
        Assert.Equal(new ExitStatus(null, Children.SIGKILL), await child.Exited.WaitAsync(Ct));
        Assert.False(await child.StopAsync().WaitAsync(Ct));

        static char State(int pid) => File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1][0];
    }

    [Fact]
    public async Task Disposing_neither_ends_it_nor_leaves_a_zombie()
    {
        var child = ChildProcess.Start(Children.Sleep);
        using var observer = PidFd.Open(child.Pid);

        await child.DisposeAsync();

        Assert.False(observer.HasExited);
        observer.Signal(Children.SIGKILL);
        Assert.Equal(new ExitStatus(null, Children.SIGKILL), await child.Exited.WaitAsync(Ct));
        Assert.Equal(Errno.ESRCH, Assert.Throws<SyscallException>(() => observer.Signal(0)).Errno); // a zombie would still take it
    }

    [Fact]
    public async Task Many_children_at_once_each_give_their_own_status()
    {
        var children = Enumerable.Range(0, 40).Select(i => ChildProcess.Start(Children.Shell($"exit {i}"))).ToArray();

        var codes = await Task.WhenAll(children.Select(child => child.Exited)).WaitAsync(Ct);

        Assert.Equal(Enumerable.Range(0, 40), codes.Select(status => status.Code!.Value));
        foreach (var child in children)
            await child.DisposeAsync();
    }

    [Fact]
    public async Task Arguments_arrive_as_they_were_given()
    {
        string[] arguments = ["-c", "echo ready; read x", "", "a b", "ü\n\"'$", "--"];
        await using var running = await RunningChild.StartAndReadLineAsync(
            new ChildProcessStart { Path = "/bin/sh", Argv0 = "qemu: web1", Arguments = arguments }, Ct);

        var commandLine = ProcFs.CommandLine(running.Process.Pid);

        Assert.Equal(["qemu: web1", .. arguments], commandLine);
    }

    [Fact]
    public async Task Environment_is_exactly_the_given_one()
    {
        var (output, _) = await Children.RunAsync(
            new ChildProcessStart
            {
                Path = "/usr/bin/env",
                Environment = new Dictionary<string, string> { ["A"] = "1=2", ["EMPTY"] = "", ["Ü"] = "ö" },
            },
            Ct);

        Assert.Equal(["A=1=2", "EMPTY=", "Ü=ö"], output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Environment_is_inherited_when_none_is_given()
    {
        var (output, _) = await Children.RunAsync(new ChildProcessStart { Path = "/usr/bin/env" }, Ct);

        Assert.Contains($"PATH={Environment.GetEnvironmentVariable("PATH")}\n", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Working_directory_is_the_given_one_while_the_program_is_found_from_ours()
    {
        using var directory = new TemporaryDirectory();
        await using var running = await RunningChild.StartAtRestAsync(
            new ChildProcessStart { Path = Path.GetRelativePath(Environment.CurrentDirectory, Shell.Path), WorkingDirectory = directory.Path }, Ct);
        var child = running.Process;

        var (cwd, descriptors) = (ProcFs.Cwd(child.Pid), ProcFs.Descriptors(child.Pid));

        Assert.Equal(directory.Path, cwd);
        Assert.Equal([0, 1, 2], descriptors.Select(d => d.Number));
    }

    [Fact]
    public async Task Standard_streams_are_the_given_ones()
    {
        using var input = Memfd.Create("in", 0);
        RandomAccess.Write(input, "hello"u8, 0);

        var (output, status) = await Children.RunAsync(
            new ChildProcessStart { Path = "/bin/cat", Arguments = ["/proc/self/fd/0"], StandardInput = input }, Ct);

        Assert.Equal(("hello", "exit status 0"), (output, status.ToString()));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public async Task Groups_and_sessions_are_new_where_asked_for(bool group, bool session)
    {
        await using var running = new RunningChild(Children.Sleep with { NewProcessGroup = group, NewSession = session });
        var child = running.Process;

        var fields = (await File.ReadAllTextAsync($"/proc/{child.Pid}/stat", Ct)).Split(' ');

        Assert.Equal(group || session, int.Parse(fields[4]) == child.Pid);
        Assert.Equal(session, int.Parse(fields[5]) == child.Pid);
    }

    [Fact]
    public void A_missing_program_is_named()
    {
        var e = Assert.Throws<SyscallException>(() => ChildProcess.Start(new ChildProcessStart { Path = "/no/such/qemu" }));

        Assert.Equal("posix_spawn(/no/such/qemu): ENOENT (No such file or directory)", e.Message);
    }

    [Fact]
    public async Task A_missing_interpreter_is_told_apart_from_a_missing_program()
    {
        using var directory = new TemporaryDirectory();
        var script = Path.Combine(directory.Path, "script");
        // Written by a child: a descriptor open for writing here could slip into another test's child and make this ETXTBSY.
        await Children.RunAsync(Children.Shell($"printf '#!/no/such/sh\\n' > {script}; chmod 755 {script}"), Ct);

        var e = Assert.Throws<SyscallException>(() => ChildProcess.Start(new ChildProcessStart { Path = script }));

        Assert.Equal(Errno.ENOENT, e.Errno);
        Assert.Contains("interpreter", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_is_no_program_is_refused_with_the_kernels_reason()
    {
        var e = Assert.Throws<SyscallException>(() => ChildProcess.Start(new ChildProcessStart { Path = "/etc/passwd" }));

        Assert.Equal(("EACCES", true), (e.ErrnoName, e.Message.Contains("/etc/passwd", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("/no/such/directory", "ENOENT")]
    [InlineData("/etc/passwd", "ENOTDIR")]
    public void A_bad_working_directory_is_named(string directory, string errno)
    {
        var e = Assert.Throws<SyscallException>(() => ChildProcess.Start(Children.Sleep with { WorkingDirectory = directory }));

        Assert.Equal((errno, true), (e.ErrnoName, e.Message.Contains(directory, StringComparison.Ordinal)));
    }

    [Fact]
    public void Nonsense_is_refused()
    {
        using var memfd = Memfd.Create("x", 0);

        Refused(Children.Sleep with { Path = "" });
        Refused(Children.Sleep with { Descriptors = [new(memfd, 2)] });
        Refused(Children.Sleep with { Descriptors = [new(memfd, 5), new(memfd, 5)] });
        Refused(Children.Sleep with { Descriptors = [default] });
        Refused(Children.Sleep with { Arguments = ["a\0b"] });
        Refused(Children.Sleep with { Environment = new Dictionary<string, string> { ["A=B"] = "" } });

        static void Refused(ChildProcessStart start) => Assert.ThrowsAny<ArgumentException>(() => ChildProcess.Start(start));
    }

    [Fact]
    public void A_number_beyond_the_limit_says_so()
    {
        using var memfd = Memfd.Create("x", 0);

        var e = Assert.Throws<SyscallException>(() => ChildProcess.Start(Children.Sleep with { Descriptors = [new(memfd, int.MaxValue - 1)] }));

        Assert.Contains("RLIMIT_NOFILE", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_closed_descriptor_is_refused()
    {
        var memfd = Memfd.Create("x", 0);
        memfd.Dispose();

        Assert.Throws<ObjectDisposedException>(() => ChildProcess.Start(Children.Sleep with { Descriptors = [new(memfd, 3)] }));
    }

    [Fact]
    public void The_status_of_a_child_that_somebody_else_reaped_is_unknown()
    {
        using var notOurs = PidFd.Open(1);

        var status = ChildProcess.Reap(notOurs);

        Assert.Equal((null, null, "exit status unknown"), (status.Code, status.Signal, status.ToString()));
    }
}
