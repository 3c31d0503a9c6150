using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class PidFdTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Waits_for_a_process_that_is_not_our_child()
    {
        await using var parent = await RunningChild.StartAndReadLineAsync(Children.Shell("sleep 1000 <&- >&- & echo $!; read x"), Ct);
        using var grandchild = PidFd.Open(int.Parse(parent.Line));
        var exit = grandchild.WaitForExitAsync(Ct);
        Assert.False(exit.IsCompleted);
        Assert.False(grandchild.HasExited);

        grandchild.Signal(Children.SIGKILL);

        await exit;
        Assert.True(grandchild.HasExited);
    }

    [Fact]
    public async Task A_cancelled_wait_ends_and_leaves_others_waiting()
    {
        await using var running = new RunningChild(Children.Sleep);
        var child = running.Process;
        using var cancellation = new CancellationTokenSource();
        var cancelled = child.PidFd.WaitForExitAsync(cancellation.Token);
        var waiting = child.PidFd.WaitForExitAsync(Ct);

        await cancellation.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled.WaitAsync(Ct));
        Assert.False(waiting.IsCompleted);
        Assert.True(child.PidFd.WaitForExitAsync(cancellation.Token).IsCanceled);
        child.Signal(Children.SIGKILL);
        await waiting;
    }

    [Fact]
    public async Task A_wait_survives_the_disposal_of_its_handle()
    {
        await using var running = new RunningChild(Children.Sleep);
        var child = running.Process;
        var other = PidFd.Open(child.Pid);
        var exit = other.WaitForExitAsync(Ct);
        other.Dispose();

        child.Signal(Children.SIGKILL);

        await exit;
    }

    [Fact]
    public async Task Gets_the_same_open_file_from_another_process()
    {
        using var memfd = Memfd.Create("there", 4096);
        await using var running = new RunningChild(Children.Sleep with { Descriptors = [new(memfd, 9)] });
        var child = running.Process;

        using var got = child.PidFd.GetDescriptor(9);
        var e = Assert.Throws<SyscallException>(() => child.PidFd.GetDescriptor(10));

        Assert.Equal(DescriptorInfo.Of(memfd).Inode, DescriptorInfo.Of(got).Inode);
        Assert.True(DescriptorInfo.Of(got).CloseOnExec);
        Assert.Equal($"pidfd_getfd(pid {child.Pid}, descriptor 10): EBADF (Bad file descriptor)", e.Message);
    }

    [Fact]
    public async Task Refuses_what_it_may_not_trace_and_says_how_to_be_allowed()
    {
        // A process of another user, looked at by a third one.
        if (!OperatingSystem.IsLinux() || !Environment.IsPrivilegedProcess || !File.Exists("/usr/bin/setpriv"))
            Assert.Skip("Needs root and setpriv.");
        await using var target = new RunningChild(Children.Sleep);
        var role = Children.Role(typeof(PidFdTests), nameof(Role_tries_to_get_a_descriptor), $"{target.Process.Pid}");
        var (output, status) = await Children.RunAsync(
            role with { Path = "/usr/bin/setpriv", Arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", role.Path, .. role.Arguments] }, Ct);

        Assert.True(status.Code == 0, output);
    }

    [Fact(Explicit = true)]
    public void Role_tries_to_get_a_descriptor()
    {
        using var target = PidFd.Open(int.Parse(RoleArgument.Value));

        var e = Assert.Throws<SyscallException>(() => target.GetDescriptor(0));

        Assert.Equal(Errno.EPERM, e.Errno);
        Assert.Contains("CAP_SYS_PTRACE", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_number_without_a_process_is_refused()
    {
        await using var child = ChildProcess.Start(Children.Shell("exit 0"));
        await child.Exited.WaitAsync(Ct);

        Assert.Equal(Errno.ESRCH, Assert.Throws<SyscallException>(() => PidFd.Open(child.Pid)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<SyscallException>(() => PidFd.Open(0)).Errno);
    }
}
