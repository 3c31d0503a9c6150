using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Engine exec: the program is replaced, the process stays.</summary>
public sealed class ExecTests
{
    private static readonly string[] Machine =
    [
        "-M", "pc-q35-10.0", "-m", "256", "-smp", "2", "-device", "VGA", "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-net-pci,netdev=net",
        "-netdev", "user,id=net", "-device", "virtio-serial-pci",
    ];

    /// <summary>Memory, disk and clocks are checked by the guest; a client of QMP and one of the console stay connected all the time.</summary>
    [Fact]
    public async Task ALinuxGuestGoesOnInTheSameProcess()
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "linux", [Components.Qemu111, .. guest.Arguments(), .. Machine]);
        await guest.ReadyAsync();
        var (pid, started) = (vm.VmmPid, ProcFs.StartTimeTicks(vm.VmmPid));
        await using var client = await vm.ConnectAsync();
        for (var round = 1; round <= 5; round++)
        {
            var report = await vm.UpdateAsync(Components.Qemu111, "exec");
            Assert.Equal("exec", report.GetProperty("engine").GetString());
            Assert.True(report.GetProperty("pauseMs").GetDouble() > 0, $"a pause has a length: {report}");
            Assert.Equal(["user-network"], report.GetProperty("findings").EnumerateArray().Where(f => f.GetProperty("severity").GetString() == "warn").Select(f => f.GetProperty("id").GetString()!));
            Assert.Equal((pid, pid), (report.GetProperty("from").GetProperty("pid").GetInt32(), report.GetProperty("to").GetProperty("pid").GetInt32()));
            Assert.Equal((pid, started, round + 1), (vm.VmmPid, ProcFs.StartTimeTicks(vm.VmmPid), vm.Generation));
            await vm.ExpectOneRunningVmmAsync();
            Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Program)).GetProperty("status").GetString());
            await guest.GoesOnAsync();
            await guest.AskAsync("ping here", "pong here");
        }

        Assert.Equal(Enumerable.Repeat("updated", 5), (await vm.HistoryAsync()).Select(u => u.GetProperty("outcome").GetString()!));

        // What one engine leaves the others find as they need it.
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await guest.GoesOnAsync();
        await vm.UpdateAsync(Components.Qemu111, "exec");
        await guest.GoesOnAsync();
        await vm.UpdateAsync(Components.Qemu111, "shared-ram");
        await vm.ExpectOneRunningVmmAsync();
        await guest.GoesOnAsync();
        await guest.ExpectUnharmedAsync();
        await guest.ExpectWholeDiskAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>The binary goes away between the check and the exec, as in an upgrade of its package: QEMU itself takes the guest back.</summary>
    [Fact]
    public async Task WhatCannotBeExecutedLeavesTheGuestOnTheOldProgram()
    {
        await using var host = new TestHost();
        var (guest, vm) = await StartLinuxAsync(host);
        var (pid, generation) = (vm.VmmPid, vm.Generation);
        var binary = Wrapper(host, "exec");
        using (var update = vm.StartUpdate(binary, "exec", "pause.begin:hang"))
        {
            // Held at the last moment before the exec is asked for; the hang ends with the pause's deadline, so the exec itself is not reached here.
            var report = await vm.ReportAsync(update, exitCode: 1);
            Assert.Equal("deadline", report.GetProperty("error").GetProperty("code").GetString());
        }

        Assert.Equal((pid, generation), (vm.VmmPid, vm.Generation));
        await guest.GoesOnAsync();

        // Deletes itself when it is rehearsed, so that it is gone when it is executed.
        var vanishing = Wrapper(host, $"case \"$*\" in *'-incoming defer'*) rm -f {host.File("vanishing")};; esac; exec", "vanishing");
        var failed = await vm.UpdateAsync(vanishing, "exec", exitCode: 4);
        Assert.True(failed.GetProperty("error").GetProperty("code").GetString() == "exec-failed", failed.GetProperty("error").ToString());
        Assert.Contains("No such file", failed.GetProperty("error").GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.True(failed.GetProperty("pauseMs").GetDouble() > 0);
        Assert.Equal((pid, generation), (vm.VmmPid, vm.Generation));
        await ExpectWholeAsync(guest, vm);
    }

    /// <summary>The new program ends where QEMU alone would lose the guest: before it answers, and while it waits for its state.</summary>
    [Theory]
    [InlineData("exit 3; exec")]
    [InlineData("(sleep 1; kill -9 $$) & exec")]
    public async Task ANewProgramThatDiesIsFollowedByTheOldBinary(string behaviour)
    {
        await using var host = new TestHost();
        var (guest, vm) = await StartLinuxAsync(host);
        var pid = vm.VmmPid;
        await using var client = await vm.ConnectAsync();
        var binary = Wrapper(host, $"if [ -n \"$QEMU_CPR_EXEC_STATE\" ]; then {behaviour} {Components.Qemu111} \"$@\"; fi; exec");
        var fault = behaviour.StartsWith("exit", StringComparison.Ordinal) ? null : "transfer.end:hang";
        using (var update = vm.StartUpdate(binary, "exec", fault))
        {
            var report = await vm.ReportAsync(update, exitCode: 4);
            Assert.True(report.GetProperty("pauseMs").GetDouble() > 0, $"a pause has a length: {report}");
            Assert.Contains("pid-changed", Documents.FindingIds(report));
            Assert.Equal(vm.VmmPid, report.GetProperty("from").GetProperty("pid").GetInt32());
        }

        Assert.NotEqual(pid, vm.VmmPid);
        Assert.Equal(Components.Qemu111, vm.Record.GetProperty("binary").GetString());
        Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Program)).GetProperty("status").GetString());
        await ExpectWholeAsync(guest, vm);
    }

    /// <summary>A state that cannot be loaded ends the new program; the same state is good for the old binary.</summary>
    [Fact]
    public async Task ANewProgramThatCannotLoadIsFollowedByTheOldBinary()
    {
        await using var host = new TestHost();
        var (guest, vm) = await StartLinuxAsync(host);
        var pid = vm.VmmPid;

        // Another serial port than the state is of: found when it is loaded.
        var binary = Wrapper(host, $"if [ -n \"$QEMU_CPR_EXEC_STATE\" ]; then exec {Components.Qemu111} \"$@\" -global virtio-blk-pci.queue-size=16; fi; exec");
        var report = await vm.UpdateAsync(binary, "exec", exitCode: 4);
        Assert.Contains("load", report.GetProperty("error").GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Contains("pid-changed", Documents.FindingIds(report));
        Assert.NotEqual(pid, vm.VmmPid);
        await ExpectWholeAsync(guest, vm);
    }

    [Fact]
    public async Task TheCheckNamesWhatStandsInItsWayAndThePointOfNoReturn()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "denied", [Components.Qemu111, .. TestVm.Bare, "-sandbox", "on,spawn=deny"]);
        var exec = await AssessmentAsync(vm, Components.Qemu111);
        Assert.False(exec.GetProperty("eligible").GetBoolean());
        Assert.Contains("spawn=deny", Reasons(exec), StringComparison.Ordinal);
        var refused = await vm.UpdateAsync(Components.Qemu111, "exec", exitCode: 3);
        Assert.Equal("engine-not-eligible", refused.GetProperty("error").GetProperty("code").GetString());
        await vm.QuitAsync();

        vm = await TestVm.StartAsync(host, "fits", [Components.Qemu111, .. TestVm.Bare]);
        exec = await AssessmentAsync(vm, Components.Qemu111);
        Assert.True(exec.GetProperty("eligible").GetBoolean(), exec.ToString());
        Assert.Contains("the exec", exec.GetProperty("pointOfNoReturn").GetProperty("why").GetString(), StringComparison.Ordinal);
        Assert.Contains("10.2", Reasons(await AssessmentAsync(vm, Components.Qemu100)), StringComparison.Ordinal);
        var plan = (await host.CprSharpAsync("update", vm.Name, "--to", Components.Qemu111, "--engine", "exec", "--dry-run")).Expect(0);
        Assert.Contains("point of no return: transfer, the exec", plan.Output, StringComparison.Ordinal);
        Assert.NotEqual("exec", (await vm.UpdateAsync(Components.Qemu111)).GetProperty("engine").GetString());
        await vm.QuitAsync();
    }

    /// <summary>Whatever the moment at which the supervisor is killed: the process lives, the guest runs, and the next update works.</summary>
    [Theory]
    [InlineData("prepare.spawned", "failed")]
    [InlineData("prepare.verified", "failed")]
    [InlineData("pause.begin", "failed")]
    [InlineData("transfer.begin", "updated")]
    [InlineData("transfer.end", "updated")]
    [InlineData("commit.begin", "updated")]
    [InlineData("commit.continued", "updated")]
    [InlineData("commit.end", "updated")]
    [InlineData("retire.begin", "updated")]
    [InlineData("retire.end", "updated")]
    public async Task TheSupervisorKilledThere(string point, string outcome)
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "bare", [Components.Qemu111, .. TestVm.Bare], SharedVm.Environment(guardian: false));
        var (pid, generation, supervisor) = (vm.VmmPid, vm.Generation, vm.SupervisorPid);
        using (var update = vm.StartUpdate(Components.Qemu111, "exec", $"{point}:kill"))
            (await update.ResultAsync()).Expect(5);
        (await host.CprSharpAsync(SharedVm.Environment(guardian: false), ["adopt", vm.Name])).Expect(0);
        await vm.ExpectOneRunningVmmAsync();
        Assert.NotEqual(supervisor, vm.SupervisorPid);
        Assert.Equal((pid, outcome == "updated" ? generation + 1 : generation), (vm.VmmPid, vm.Generation));
        var last = (await vm.HistoryAsync())[^1];
        Assert.Equal(outcome, last.GetProperty("outcome").GetString());
        Assert.Contains("supervisor-lost", Documents.FindingIds(last));

        Assert.Equal(pid, (await vm.UpdateAsync(Components.Qemu111, "exec")).GetProperty("to").GetProperty("pid").GetInt32());
        await vm.ExpectOneRunningVmmAsync();
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Before the exec the guest stays on the old program, after it on the new one, which has all of it; and always in the process.</summary>
    [Theory]
    [InlineData("prepare.verified", 1)]
    [InlineData("pause.begin", 1)]
    [InlineData("transfer.begin", null)]
    [InlineData("transfer.end", 0)]
    [InlineData("commit.begin", 0)]
    [InlineData("commit.continued", 0)]
    [InlineData("retire.begin", 0)]
    public async Task AnErrorThere(string point, int? exitCode)
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "bare", [Components.Qemu111, .. TestVm.Bare], SharedVm.Environment(guardian: true));
        var (pid, generation) = (vm.VmmPid, vm.Generation);
        using (var update = vm.StartUpdate(Components.Qemu111, "exec", $"{point}:error"))
        {
            // When it is called off right after it was asked for, either may be faster, and both are reported truly.
            var result = await update.ResultAsync();
            vm.Report(result, exitCode ?? result.ExitCode);
            Assert.True(result.ExitCode is 0 or 1 or 4, result.ToString());
            exitCode ??= result.ExitCode;
        }

        await vm.ExpectOneRunningVmmAsync();
        Assert.Equal((pid, exitCode == 0 ? generation + 1 : generation), (vm.VmmPid, vm.Generation));
        Assert.Equal("exec", (await vm.UpdateAsync(Components.Qemu111, "exec")).GetProperty("engine").GetString());
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Memory and disks are the new program's from the commit on: the old binary must not be started on them.</summary>
    [Fact]
    public async Task ANewProgramThatIsKilledAfterTheCommitEndsTheGuest()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "bare", [Components.Qemu111, .. TestVm.Bare], SharedVm.Environment(guardian: true, pauseMs: SharedVm.LongPauseMs));
        using var update = vm.StartUpdate(Components.Qemu111, "exec", "commit.continued:hang");
        await vm.UntilUnderWayAsync("commit");
        await TestHost.EndAsync(vm.VmmPid);
        var report = await vm.ReportAsync(update, 5);
        Assert.Equal("guest-lost", report.GetProperty("error").GetProperty("code").GetString());
        await host.ExpectNothingLeftAsync();
    }

    private static async Task<(LinuxGuest Guest, TestVm Vm)> StartLinuxAsync(TestHost host)
    {
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "linux", [Components.Qemu111, .. guest.Arguments(), .. Machine], SharedVm.Environment(guardian: true, pauseMs: 3000));
        await guest.ReadyAsync();
        return (guest, vm);
    }

    private static async Task ExpectWholeAsync(LinuxGuest guest, TestVm vm)
    {
        await vm.ExpectOneRunningVmmAsync();
        await guest.GoesOnAsync();
        await vm.UpdateAsync(Components.Qemu111, "exec");
        await vm.ExpectOneRunningVmmAsync();
        await guest.GoesOnAsync();
        await guest.AskAsync("ping here", "pong here");
        await guest.ExpectUnharmedAsync();
        await guest.ExpectWholeDiskAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await vm.Host.ExpectNothingLeftAsync();
    }

    /// <summary>A QEMU that does something first.</summary>
    private static string Wrapper(TestHost host, string first, string name = "qemu-wrapped") => host.Script(name, $"{first} {Components.Qemu111} \"$@\"");

    private static async Task<JsonElement> AssessmentAsync(TestVm vm, string to)
    {
        var check = await vm.Host.CprSharpAsync("check", vm.Name, "--to", to, "--json");
        return check.Document.GetProperty("engines").EnumerateArray().Single(e => e.GetProperty("name").GetString() == "exec");
    }

    private static string Reasons(JsonElement assessment) => string.Join("; ", assessment.GetProperty("reasons").EnumerateArray().Select(r => r.GetString()));
}
