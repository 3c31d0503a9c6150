using CprSharp.Memfd.Interop;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class ProcFsTests
{
    private static readonly int Self = Environment.ProcessId;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public void Maps_show_a_mapping_where_it_is()
    {
        using var memfd = Memfd.Create("a b\nc", 4 * 4096);
        using var mapping = MemoryMapping.Map(memfd, 8192, 4096, MappingProtection.Read | MappingProtection.Write);

        var entry = Assert.Single(ProcFs.Maps(Self), map => map.Inode == DescriptorInfo.Of(memfd).Inode);

        Assert.Equal((ulong)mapping.DangerousGetHandle(), entry.Start);
        Assert.Equal((4096UL, 8192UL, true), (entry.Length, entry.Offset, entry.Shared));
        Assert.Equal(MappingProtection.Read | MappingProtection.Write, entry.Protection);
        Assert.Equal("/memfd:a b\nc (deleted)", entry.Path);
        Assert.Equal(DescriptorInfo.Of(memfd).Device, entry.Device);
    }

    [Fact]
    public async Task A_child_is_described_as_it_was_started()
    {
        using var directory = new TemporaryDirectory();
        await using var running = await RunningChild.StartAndReadLineAsync(
            Children.Shell("echo ready; read x") with
            {
                WorkingDirectory = directory.Path,
                Environment = new Dictionary<string, string> { ["KEY"] = "a=b" },
            },
            Ct);
        var child = running.Process;

        var status = ProcFs.Status(child.Pid);
        var environment = ProcFs.Environment(child.Pid);
        var (cwd, root, executable) = (ProcFs.Cwd(child.Pid), ProcFs.Root(child.Pid), ProcFs.ExecutablePath(child.Pid));
        var (threads, name) = (ProcFs.Threads(child.Pid), ProcFs.ThreadName(child.Pid, child.Pid));
        var (start, ours) = (ProcFs.StartTimeTicks(child.Pid), ProcFs.StartTimeTicks(Self));
        var (theirCgroups, namespaces) = (ProcFs.Cgroups(child.Pid), ProcFs.Namespaces(child.Pid));

        Assert.Equal(("sh", Self, 0, 1), (status.Name, status.ParentPid, status.TracerPid, status.ThreadCount));
        Assert.Equal(ProcFs.Status(Self).UserIds, status.UserIds);
        Assert.Equal(ProcFs.Status(Self).Groups, status.Groups);
        Assert.Equal(ProcFs.Status(Self).Capabilities.Bounding, status.Capabilities.Bounding);
        Assert.True(status.ResidentBytes > 0);
        Assert.Equal((0L, 0L), (status.LockedBytes, status.PinnedBytes));
        Assert.Equal("a=b", Assert.Single(environment).Value);
        Assert.Equal((directory.Path, "/"), (cwd, root));
        Assert.Equal(LibC.Stat("/bin/sh").Inode, LibC.Stat(executable!).Inode);
        Assert.Equal([child.Pid], threads);
        Assert.Equal("sh", name);
        Assert.True(start >= ours);
        Assert.Equal(ProcFs.Cgroups(Self), theirCgroups);
        Assert.Equal(ProcFs.Namespaces(Self), namespaces);
        Assert.Contains("net", namespaces.Keys);
    }

    [Fact]
    public async Task No_new_privileges_and_oom_adjustment_are_seen()
    {
        await using var running = new RunningChild(Children.Sleep);
        var child = running.Process;
        var before = (ProcFs.OomScoreAdjustment(child.Pid), ProcFs.Status(child.Pid).NoNewPrivileges, ProcFs.Status(child.Pid).Seccomp);
        await File.WriteAllTextAsync($"/proc/{child.Pid}/oom_score_adj", "321", Ct);
        var after = ProcFs.OomScoreAdjustment(child.Pid);

        Assert.Equal((ProcFs.OomScoreAdjustment(Self), ProcFs.Status(Self).NoNewPrivileges, ProcFs.Status(Self).Seccomp), before);
        Assert.Equal(321, after);
    }

    [Fact]
    public async Task A_zombie_has_no_program_and_no_arguments()
    {
        // The second shell does not know of the child that the first one left it, and neither it nor what it becomes reaps it.
        await using var parent = await RunningChild.StartAndReadLineAsync(Children.Shell("sleep 1000 <&- >&- & exec sh -c \"echo $!; exec sleep 1000\""), Ct);
        var pid = int.Parse(parent.Line);
        using (var zombie = PidFd.Open(pid))
        {
            zombie.Signal(Children.SIGKILL);
            await zombie.WaitForExitAsync(Ct);
        }

        var (status, executable, arguments) = (ProcFs.Status(pid), ProcFs.ExecutablePath(pid), ProcFs.CommandLine(pid));

        Assert.Equal(('Z', null, null), (status.State, status.ResidentBytes, executable));
        Assert.Empty(arguments);
    }

    [Fact]
    public void Descriptors_come_with_what_fdinfo_says()
    {
        using var eventFd = Native.EventFd();
        var number = (int)eventFd.DangerousGetHandle();

        var entry = Assert.Single(ProcFs.Descriptors(Self), d => d.Number == number);

        Assert.Equal(DescriptorInfo.Of(eventFd), entry.Info);
        Assert.Equal("0", entry.Details["eventfd-count"]);
        Assert.Equal("0", entry.Details["pos"]);
    }

    [Fact]
    public async Task Without_a_process_every_question_names_what_was_missing()
    {
        await using var child = ChildProcess.Start(Children.Shell("exit 0"));
        await child.Exited.WaitAsync(Ct);
        var pid = child.Pid;
        Func<object?>[] questions =
        [
            () => ProcFs.Descriptors(pid), () => ProcFs.Maps(pid), () => ProcFs.Threads(pid), () => ProcFs.ThreadName(pid, pid),
            () => ProcFs.Status(pid), () => ProcFs.CommandLine(pid), () => ProcFs.Environment(pid), () => ProcFs.ExecutablePath(pid),
            () => ProcFs.Cwd(pid), () => ProcFs.Root(pid), () => ProcFs.StartTimeTicks(pid), () => ProcFs.Limits(pid),
            () => ProcFs.OomScoreAdjustment(pid), () => ProcFs.Cgroups(pid), () => ProcFs.Namespaces(pid), () => ProcFs.SecurityLabel(pid),
        ];

        Assert.All(questions, question =>
        {
            var e = Assert.Throws<SyscallException>(question);
            Assert.Equal(Errno.ENOENT, e.Errno);
            Assert.Contains($"/proc/{pid}", e.Message, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void The_security_label_is_the_kernels_or_absent()
    {
        var lsm = File.Exists("/sys/kernel/security/lsm") ? File.ReadAllText("/sys/kernel/security/lsm") : "";
        var labels = lsm.Contains("selinux", StringComparison.Ordinal) || lsm.Contains("apparmor", StringComparison.Ordinal);
        if (lsm.Length == 0)
            Assert.Skip("securityfs is not mounted.");

        Assert.Equal(labels, ProcFs.SecurityLabel(Self) is not null);
    }
}
