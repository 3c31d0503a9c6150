using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>What goes wrong without a fault point: binaries that are none, processes that die, operators who change their mind, full disks.</summary>
public sealed class RealFaults(SharedVm machine) : IClassFixture<SharedVm>
{
    private const int Interrupt = 2;
    private const int Terminate = 15;
    private const int Continue = 18;
    private const int Stop = 19;

    [Theory]
    [InlineData("/bin/true", "")]
    [InlineData("/nowhere/qemu-system-x86_64", "")]
    [InlineData("/etc/passwd", "")]
    [InlineData("/usr", "")]
    [InlineData("script", "echo 'Segmentation fault' >&2; kill -SEGV $$")]
    public async Task WhatIsNoQemuIsRefused(string binary, string script)
    {
        var vm = await machine.ReadyAsync();
        var pid = vm.VmmPid;
        var path = script.Length > 0 ? vm.Host.Script(binary, script) : binary;
        var report = await vm.UpdateAsync(path, exitCode: 3);
        Assert.Contains(Path.GetFileName(path), report.GetProperty("error").GetProperty("message").GetString());
        Assert.NotEmpty(report.GetProperty("error").GetProperty("fix").GetString()!);
        Documents.ExpectCheckReport((await vm.Host.CprSharpAsync("check", vm.Name, "--to", path, "--json")).Expect(3).Document, vm.Name, "blocked");
        await ExpectUntouchedAsync(vm, pid);
    }

    [Fact]
    public async Task ABinaryWithoutTheMachineTypeIsRefused()
    {
        var vm = await machine.ReadyAsync();
        var pid = vm.VmmPid;
        var report = await vm.UpdateAsync(Components.Qemu72, exitCode: 3);
        Assert.Contains(report.GetProperty("findings").EnumerateArray(), f =>
            f.GetProperty("id").GetString() == "machine-type" && f.GetProperty("severity").GetString() == "fail" && f.GetProperty("object").GetString() == "pc-q35-10.0");
        await ExpectUntouchedAsync(vm, pid);
    }

    /// <summary>They answer every question, and fail when it gets serious.</summary>
    [Theory]
    [InlineData("exit 1", 3, "start-refused")]
    [InlineData("kill -SEGV $$", 1, "vmm-ended")]
    [InlineData("exec sleep 1000", 1, "deadline")]
    public async Task ANewVmmThatFailsAtItsStartLeavesTheGuestAlone(string failure, int exitCode, string code)
    {
        var vm = await machine.ReadyAsync();
        var pid = vm.VmmPid;
        var wrapper = vm.Host.Script("qemu-wrapper", $"case \" $* \" in *' -incoming '*) {failure};; esac\nexec {Components.Qemu111} \"$@\"");
        foreach (var engine in new[] { "transfer", "shared-ram" })
        {
            var report = await vm.UpdateAsync(wrapper, engine, exitCode);
            Assert.Equal(code, report.GetProperty("error").GetProperty("code").GetString());
            await ExpectUntouchedAsync(vm, pid);
        }

        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task AWrapperThatWorksIsAsGoodAsABinary()
    {
        var vm = await machine.ReadyAsync();
        var wrapper = vm.Host.Script("good-wrapper", $"exec {Components.Qemu111} \"$@\"");
        Assert.Equal(wrapper, (await vm.UpdateAsync(wrapper)).GetProperty("to").GetProperty("binary").GetString());
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>The commit never comes (the fault holds it back), so wherever the kill hits, the old VMM must have the guest.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task ANewVmmKilledAtAnyMomentBeforeTheCommitLeavesTheGuestOnTheOldOne(string engine)
    {
        var random = new Random(20261121);
        for (var round = 0; round < 5; round++)
        {
            var vm = await machine.ReadyAsync();
            var pid = vm.VmmPid;
            using var update = vm.StartUpdate(Components.Qemu111, engine, "transfer.end:hang");
            var fresh = await NewVmmAsync(vm);
            await Task.Delay(random.Next(0, 600));
            await TestHost.EndAsync(fresh);
            var result = await update.ResultAsync();
            var report = vm.Report(result, result.ExitCode == 1 ? 1 : 4);
            Assert.Equal(pid, report.GetProperty("from").GetProperty("pid").GetInt32());
            await ExpectUntouchedAsync(vm, pid);
        }

        var after = await machine.ReadyAsync();
        await after.UpdateAsync(Components.Qemu111, engine);
        await after.ExpectOneRunningVmmAsync();
    }

    /// <summary>The new VMM is told to go on before it has loaded; a load that fails must not be a guest that is lost.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task ALoadThatFailsGivesTheGuestBack(string engine)
    {
        var vm = await machine.ReadyAsync();
        var pid = vm.VmmPid;
        var wrapper = vm.Host.Script("qemu-other-hpet", $"case \" $* \" in *' -incoming '*) set -- \"$@\" -global hpet.timers=7;; esac\nexec {Components.Qemu111} \"$@\"");
        var report = await vm.UpdateAsync(wrapper, engine, exitCode: 4);
        Assert.Contains(report.GetProperty("error").GetProperty("code").GetString(), new[] { "load-failed", "vmm-ended" });
        Assert.Contains("hpet", report.GetProperty("error").GetProperty("message").GetString());
        await ExpectUntouchedAsync(vm, pid);
        await vm.UpdateAsync(Components.Qemu111, engine);
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>Stopped before, in, or after its load: it has run the guest or it has not, and the supervisor must not guess.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task ANewVmmThatStandsStillAtAnyMomentRunsTheGuestOrHasNot(string engine)
    {
        var random = new Random(20261121);
        for (var round = 0; round < 6; round++)
        {
            var vm = await machine.ReadyAsync();
            var pid = vm.VmmPid;
            using var update = vm.StartUpdate(Components.Qemu111, engine);
            var fresh = await NewVmmAsync(vm, old: pid);
            using var pidFd = Memfd.PidFd.Open(fresh);
            await Task.Delay(random.Next(0, 300));
            pidFd.Signal(Stop);
            var result = await update.ResultAsync();
            if (result.ExitCode == 0)
                pidFd.Signal(Continue);
            else
                Assert.Contains(result.ExitCode, new[] { 1, 4 });
            await vm.ExpectOneRunningVmmAsync();
            Assert.Equal(result.ExitCode == 0 ? fresh : pid, vm.VmmPid);
        }
    }

    /// <summary>Nobody can bring that guest back. It is said, and nothing is left of it.</summary>
    [Fact]
    public async Task AnOldVmmThatIsKilledBeforeThePauseTakesTheGuestWithItAndThatIsSaid()
    {
        var vm = await machine.ReadyAsync();
        await vm.UpdateAsync(Components.Qemu111); // only its own child's status does a supervisor learn
        using var update = vm.StartUpdate(Components.Qemu111, fault: "prepare.verified:hang");
        await NewVmmAsync(vm);
        await TestHost.EndAsync(vm.VmmPid);
        var report = await vm.ReportAsync(update, 1);
        Assert.Equal("guest-ended", report.GetProperty("error").GetProperty("code").GetString());
        Assert.Contains("SIGKILL", report.GetProperty("error").GetProperty("message").GetString());
        await vm.Host.ExpectNothingLeftAsync();
    }

    /// <summary>Once the new VMM has the whole guest, the old one's death is no reason to lose it.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task AnOldVmmThatIsKilledAfterTheTransferIsNotNeededAnyMore(string engine)
    {
        var vm = await machine.ReadyAsync(pauseMs: SharedVm.LongPauseMs);
        var (pid, generation) = (vm.VmmPid, vm.Generation);
        using var update = vm.StartUpdate(Components.Qemu111, engine, "transfer.end:hang");
        await vm.UntilUnderWayAsync("verify");
        await TestHost.EndAsync(pid);
        var report = await vm.ReportAsync(update, 0);
        Assert.Contains("old-vmm-ended", Documents.FindingIds(report));
        await vm.ExpectOneRunningVmmAsync();
        Assert.Equal(generation + 1, vm.Generation);
        await vm.UpdateAsync(Components.Qemu111, engine);
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>With neither of the two whole, an operator is told so, and nothing pretends to run the guest.</summary>
    [Fact]
    public async Task BothVmmsKilledInThePauseIsAnUnknownState()
    {
        var vm = await machine.ReadyAsync(pauseMs: SharedVm.LongPauseMs);
        using var update = vm.StartUpdate(Components.Qemu111, fault: "transfer.end:hang");
        var fresh = await NewVmmAsync(vm);
        await vm.UntilUnderWayAsync("verify");
        await TestHost.EndAsync(fresh);
        await TestHost.EndAsync(vm.VmmPid);
        var report = await vm.ReportAsync(update, 5);
        Assert.Contains("ended", report.GetProperty("error").GetProperty("message").GetString());
        await vm.Host.ExpectNothingLeftAsync();
    }

    /// <summary>It ran the guest already, or was about to and nobody can know: the old VMM, whose memory that is too, must not go on.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task ANewVmmThatIsKilledAfterItBeganEndsTheGuest(string engine)
    {
        var vm = await machine.ReadyAsync(pauseMs: SharedVm.LongPauseMs);
        var traced = vm.Host.Script("qemu-traced", $"exec {Components.Qemu111} \"$@\" -trace runstate_set");
        using var update = vm.StartUpdate(traced, engine, "commit.continued:hang");
        var fresh = await NewVmmAsync(vm);
        await vm.UntilUnderWayAsync("commit");
        await Deadlines.EventuallyAsync(() => vm.Logs().Contains("(running)", StringComparison.Ordinal) ? null : $"the new VMM does not run the guest yet\n{vm.Logs()}");
        await TestHost.EndAsync(fresh);
        var report = await vm.ReportAsync(update, 5);
        Assert.Equal("guest-lost", report.GetProperty("error").GetProperty("code").GetString());
        await vm.Host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AClientThatGoesAwayDoesNotStopItsUpdate()
    {
        var vm = await machine.ReadyAsync();
        var (generation, pid) = (vm.Generation, vm.VmmPid);
        using var update = vm.StartUpdate(Components.Qemu111);
        await NewVmmAsync(vm, old: pid);
        await TestHost.EndAsync(update.Pid);
        await Deadlines.EventuallyAsync(() => vm.Generation == generation + 1 ? null : $"the update did not go on\n{vm.Logs()}");
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task CtrlCBeforeThePauseCancels()
    {
        var vm = await machine.ReadyAsync();
        var pid = vm.VmmPid;
        using var update = vm.StartUpdate(Components.Qemu111, fault: "prepare.verified:hang");
        await NewVmmAsync(vm);
        update.Signal(Interrupt);
        var report = await vm.ReportAsync(update, 1);
        Assert.Equal("cancelled", report.GetProperty("error").GetProperty("code").GetString());
        Assert.Equal(JsonValueKind.Null, report.GetProperty("pauseMs").ValueKind);
        await ExpectUntouchedAsync(vm, pid);
        await vm.UpdateAsync(Components.Qemu111);
    }

    [Fact]
    public async Task CtrlCInThePauseChangesNothing()
    {
        var vm = await machine.ReadyAsync(pauseMs: SharedVm.LongPauseMs);
        using var update = vm.StartUpdate(Components.Qemu111, fault: "transfer.end:hang");
        await vm.UntilUnderWayAsync("verify");
        update.Signal(Interrupt);
        var report = await vm.ReportAsync(update, 4);
        Assert.Equal("deadline", report.GetProperty("error").GetProperty("code").GetString());
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task ASecondUpdateIsToldToWait()
    {
        var vm = await machine.ReadyAsync();
        using var first = vm.StartUpdate(Components.Qemu111, fault: "prepare.verified:hang");
        await NewVmmAsync(vm);
        var report = await vm.UpdateAsync(Components.Qemu111, exitCode: 75);
        Assert.Equal("busy", report.GetProperty("error").GetProperty("code").GetString());
        first.Signal(Interrupt);
        await vm.ReportAsync(first, 1);
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task TheSupervisorKilledIdleIsReplacedByItsGuardian()
    {
        var vm = await machine.ReadyAsync();
        var (supervisor, pid) = (vm.SupervisorPid, vm.VmmPid);
        await TestHost.EndAsync(supervisor);
        await Deadlines.EventuallyAsync(() => vm.SupervisorPid == supervisor ? $"nobody took the VM over\n{vm.Logs()}" : null);
        (await vm.Host.CprSharpAsync("adopt", vm.Name)).Expect(0);
        await ExpectUntouchedAsync(vm, pid);
        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>Nobody waits for the supervisor's death any more once its guardian is dead, so there is a new one.</summary>
    [Fact]
    public async Task AGuardianThatIsKilledIsReplaced()
    {
        var vm = await machine.ReadyAsync();
        var (supervisor, pid) = (vm.SupervisorPid, vm.VmmPid);
        var first = vm.Host.Processes().Single(p => p.IsGuardian).Pid;
        await TestHost.EndAsync(first);
        await Deadlines.EventuallyAsync(() => vm.Host.Processes().Any(p => p.IsGuardian && p.Pid != first) ? null : "there is no guardian any more");
        await TestHost.EndAsync(supervisor);
        await Deadlines.EventuallyAsync(() => vm.SupervisorPid == supervisor ? $"nobody took the VM over\n{vm.Logs()}" : null);
        (await vm.Host.CprSharpAsync("adopt", vm.Name)).Expect(0);
        await ExpectUntouchedAsync(vm, pid);
    }

    /// <summary>The new VMM was loaded but never ran, so the old one is as good as before.</summary>
    [Theory]
    [InlineData("transfer")]
    [InlineData("shared-ram")]
    public async Task SupervisorAndNewVmmKilledBeforeTheCommitLeaveTheGuestToTheOldOne(string engine)
    {
        var vm = await machine.ReadyAsync(guardian: false, pauseMs: SharedVm.LongPauseMs);
        var (supervisor, pid, generation) = (vm.SupervisorPid, vm.VmmPid, vm.Generation);
        using var update = vm.StartUpdate(Components.Qemu111, engine, "transfer.end:hang");
        var fresh = await NewVmmAsync(vm);
        await vm.UntilUnderWayAsync("verify");
        await TestHost.EndAsync(supervisor);
        await TestHost.EndAsync(fresh);
        (await update.ResultAsync()).Expect(5);
        (await vm.Host.CprSharpAsync(SharedVm.Environment(guardian: false, SharedVm.LongPauseMs), ["adopt", vm.Name])).Expect(0);
        await ExpectUntouchedAsync(vm, pid);
        Assert.Equal(generation, vm.Generation);
        Assert.Equal("rolledBack", (await vm.HistoryAsync())[^1].GetProperty("outcome").GetString());
    }

    [Fact]
    public async Task ABinaryThatIsBeingAskedEndsWithTheSupervisor()
    {
        var vm = await machine.ReadyAsync();
        var asked = vm.Host.File("asked");
        var silent = vm.Host.Script("qemu-silent", $"echo > {asked}\nexec sleep 1000");
        using var update = vm.StartUpdate(silent);
        await Deadlines.EventuallyAsync(() => Task.FromResult(File.Exists(asked) ? null : "the binary was not asked"));
        await TestHost.EndAsync(vm.SupervisorPid);
        await update.ResultAsync();
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>After the commit the old VMM's memory is the new one's: it must never run again.</summary>
    [Fact]
    public async Task SupervisorAndNewVmmKilledAfterTheCommitEndTheGuest()
    {
        var vm = await machine.ReadyAsync(guardian: false, pauseMs: SharedVm.LongPauseMs);
        var (supervisor, pid) = (vm.SupervisorPid, vm.VmmPid);
        using var update = vm.StartUpdate(Components.Qemu111, fault: "commit.end:hang");
        var fresh = await NewVmmAsync(vm);
        await vm.UntilUnderWayAsync("retire");
        await TestHost.EndAsync(supervisor);
        await TestHost.EndAsync(fresh);
        (await update.ResultAsync()).Expect(5);
        var adopt = (await vm.Host.CprSharpAsync("adopt", vm.Name, "--json")).Expect(5);
        Assert.Equal("guest-lost", adopt.Document.GetProperty("error").GetProperty("code").GetString());
        Assert.DoesNotContain(vm.Host.Processes(), p => p.Pid == pid);
        var last = (await vm.HistoryAsync())[^1];
        Assert.Equal("unknown", last.GetProperty("outcome").GetString());
        Assert.Equal("guest-lost", last.GetProperty("error").GetProperty("code").GetString());
    }

    [Theory]
    [InlineData(null)]
    [InlineData("prepare.verified:hang")]
    [InlineData("transfer.end:hang")]
    public async Task SigtermToTheSupervisorEndsTheVmAndCleansUp(string? fault)
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "term", [Components.Qemu111, .. TestVm.Bare], SharedVm.Environment(guardian: true));
        using var update = fault is null ? null : vm.StartUpdate(Components.Qemu111, fault: fault);
        if (update is not null)
            await NewVmmAsync(vm);
        using (var supervisor = Memfd.PidFd.Open(vm.SupervisorPid))
            supervisor.Signal(Terminate);
        if (update is not null)
            Assert.NotEqual(0, (await update.ResultAsync()).ExitCode);
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task AFullStateDirectoryIsRefused()
    {
        await using var host = new TestHost();
        Directory.CreateDirectory(host.State);
        await MountAsync(host, "mount", "-t", "tmpfs", "-o", "size=8m", "none", host.State);
        host.OnDispose(() => MountAsync(host, "umount", "-l", host.State));
        var vm = await TestVm.StartAsync(host, "full", [Components.Qemu111, .. TestVm.Bare]);
        var pid = vm.VmmPid;

        var ballast = Path.Combine(host.State, "ballast");
        await using (var file = File.Create(ballast))
        {
            var fill = new byte[4096];
            try
            {
                while (true)
                {
                    await file.WriteAsync(fill);
                    await file.FlushAsync();
                }
            }
            catch (IOException)
            {
                // Full.
            }
        }

        var report = await vm.UpdateAsync(Components.Qemu111, exitCode: 3);
        Assert.Contains("state-directory-full", Documents.FindingIds(report));
        Assert.Equal(pid, vm.VmmPid);
        Assert.Equal("running", await vm.RunStateAsync());
        File.Delete(ballast);
        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    private static async Task ExpectUntouchedAsync(TestVm vm, int pid)
    {
        await vm.ExpectOneRunningVmmAsync();
        Assert.Equal(pid, vm.VmmPid);
    }

    /// <summary>Waits until the VMM that an update goes to exists; its PID. With <paramref name="old"/>, also when it has taken over already.</summary>
    private static async Task<int> NewVmmAsync(TestVm vm, int? old = null)
    {
        var pid = 0;
        await Deadlines.EventuallyAsync(() =>
        {
            pid = vm.Host.Processes().FirstOrDefault(p => p.IsVmm && p.Arguments.Contains("-incoming", StringComparer.Ordinal) && p.Pid != (old ?? vm.VmmPid))?.Pid ?? 0;
            return pid == 0 ? $"no new VMM was started\n{vm.Logs()}" : null;
        });
        return pid;
    }

    private static async Task MountAsync(TestHost host, string tool, params string[] arguments)
    {
        using var program = host.StartProgram($"/usr/bin/{tool}", null, null, arguments);
        (await program.ResultAsync()).Expect(0);
    }
}
