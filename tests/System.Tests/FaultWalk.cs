using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Every fault point, each way to fail: afterwards exactly one VMM runs the guest, and the next update works.</summary>
/// <remarks>With the engines in turns; all with both where CPRSHARP_TEST_WALK is "whole", as <c>make soak</c> has it.</remarks>
public sealed class FaultWalk(SharedVm machine) : IClassFixture<SharedVm>
{
    private const int SupervisorLost = 5;

    /// <summary>In the order of an update, as <c>cprsharp fault-points</c> lists them; a test below compares.</summary>
    private static readonly string[] BeforeThePause =
        ["inspect.begin", "plan.made", "prepare.spawn", "prepare.spawned", "prepare.ready", "prepare.verified", "pause.begin"];

    private static readonly string[] InThePause = ["transfer.begin", "transfer.end", "commit.begin"];
    private static readonly string[] AfterTheCommit = ["commit.continued", "commit.end", "retire.begin", "retire.end"];
    private static readonly string[] OnTheWayBack = ["rollback.begin", "rollback.end"];

    private static readonly string[] Points = [.. BeforeThePause, .. InThePause, .. AfterTheCommit, .. OnTheWayBack];

    /// <summary>Where nobody may have the guest once the supervisor is dead: a VMM that sees the end of its monitor's connection first never reads the "cont" before it.</summary>
    private static readonly string[] Undecided = [.. InThePause, "commit.continued", .. OnTheWayBack];

    /// <param name="first">Which engine the first point is met with; the next with the other.</param>
    public static TheoryData<string, string> Walk(int first)
    {
        string[] engines = ["transfer", "shared-ram"];
        var whole = Environment.GetEnvironmentVariable("CPRSHARP_TEST_WALK") == "whole";
        return [.. from engine in engines.Index() from point in Points.Index()
                   where whole || engine.Index == (first + point.Index) % engines.Length
                   select (engine.Item, point.Item)];
    }

    [Fact]
    public async Task TheWalkPassesEveryPointThatTheProgramLists()
    {
        await using var host = new TestHost();
        var listed = (await host.CprSharpAsync("fault-points")).Expect(0).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(listed, Points);
        var document = (await host.CprSharpAsync("fault-points", "--json")).Expect(0).Document;
        Assert.Equal(listed, document.GetProperty("faultPoints").EnumerateArray().Select(p => p.GetString()!));
    }

    [Theory]
    [MemberData(nameof(Walk), 0)]
    public Task AnErrorThere(string engine, string point) => FailsAndIsRetriedAsync(engine, point, "error");

    [Theory]
    [MemberData(nameof(Walk), 1)]
    public Task AHangThere(string engine, string point) => FailsAndIsRetriedAsync(engine, point, "hang");

    /// <summary>Without a guardian an operator takes the VM over. The retry is made with the other engine, to which no setting of the first may stick.</summary>
    [Theory]
    [MemberData(nameof(Walk), 0)]
    public async Task TheSupervisorKilledThere(string engine, string point)
    {
        var vm = await machine.ReadyAsync(guardian: false);
        var (supervisor, vmm, generation) = (vm.SupervisorPid, vm.VmmPid, vm.Generation);
        using var update = vm.StartUpdate(Components.Qemu111, engine, Armed(point, "kill"));
        var lost = (await update.ResultAsync()).Expect(SupervisorLost);
        Documents.ExpectError(lost.Document.GetProperty("error"));
        Assert.DoesNotContain(vm.Host.Processes(), p => p.Pid == supervisor);

        await Deadlines.EventuallyAsync(async () =>
        {
            var states = await vm.RunStatesWithoutSupervisorAsync();
            Assert.True(states.Count(s => s == "running") <= 1, $"more than one VMM runs the guest: {string.Join(", ", states)}");

            // A VMM that was told to go on does so when it has loaded.
            return Undecided.Contains(point) || states.Contains("running") ? null : $"no VMM runs the guest: {string.Join(", ", states)}";
        });

        (await vm.Host.CprSharpAsync(SharedVm.Environment(guardian: false), ["adopt", vm.Name])).Expect(0);
        await vm.ExpectOneRunningVmmAsync();
        Assert.NotEqual(supervisor, vm.SupervisorPid);
        // Between, both VMMs have the whole guest, and the recovery may give it to either.
        if (BeforeThePause.Contains(point) || point == "rollback.end")
            Assert.Equal((vmm, generation), (vm.VmmPid, vm.Generation));
        if (AfterTheCommit.Contains(point) && !Undecided.Contains(point))
            Assert.NotEqual(vmm, vm.VmmPid);

        // What came before the new VMM left no trace; all else is in the history.
        string[] untraced = ["inspect.begin", "plan.made", "prepare.spawn"];
        if (!untraced.Contains(point))
        {
            var last = (await vm.HistoryAsync())[^1];
            Assert.Equal(vm.VmmPid != vmm ? "updated" : BeforeThePause.Contains(point) ? "failed" : "rolledBack", last.GetProperty("outcome").GetString());
            Assert.Contains("supervisor-lost", Documents.FindingIds(last));
        }

        var other = engine == "transfer" ? "shared-ram" : "transfer";
        Assert.Equal(other, (await vm.UpdateAsync(Components.Qemu111, other)).GetProperty("engine").GetString());
        await vm.ExpectOneRunningVmmAsync();
    }

    /// <summary>With a guardian, which every VM has by default, nobody needs to do anything.</summary>
    [Theory]
    [InlineData("transfer", "plan.made", 1)]
    [InlineData("transfer", "prepare.spawned", 1)]
    [InlineData("transfer", "transfer.end", 0)]
    [InlineData("shared-ram", "commit.begin", 0)]
    [InlineData("shared-ram", "commit.end", 0)]
    [InlineData("shared-ram", "rollback.end", 4)]
    public async Task TheSupervisorKilledThereComesBackByItself(string engine, string point, int exitCode)
    {
        var vm = await machine.ReadyAsync(guardian: true);
        var supervisor = vm.SupervisorPid;
        using (var update = vm.StartUpdate(Components.Qemu111, engine, Armed(point, "kill")))
        {
            var result = (await update.ResultAsync()).Expect(exitCode);
            if (point != "plan.made")
                Documents.ExpectUpdateReport(result.Document, vm.Name, exitCode);
        }

        await Deadlines.EventuallyAsync(() => vm.SupervisorPid == supervisor ? $"nobody took the VM over\n{vm.Logs()}" : null);
        (await vm.Host.CprSharpAsync("adopt", vm.Name)).Expect(0);
        await vm.ExpectOneRunningVmmAsync();
        await vm.UpdateAsync(Components.Qemu111, engine);
        await vm.ExpectOneRunningVmmAsync();
    }

    [Fact]
    public async Task UpdatesLeaveNoDescriptorBehind()
    {
        var vm = await machine.ReadyAsync(guardian: true);
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        var before = vm.SupervisorDescriptors();
        foreach (var engine in new[] { "shared-ram", "transfer", "shared-ram", "transfer" })
            await vm.UpdateAsync(Components.Qemu111, engine);
        await vm.ExpectNoMoreDescriptorsAsync(before);
        await vm.ExpectOneRunningVmmAsync();
    }

    private async Task FailsAndIsRetriedAsync(string engine, string point, string action)
    {
        var vm = await machine.ReadyAsync(guardian: true);
        var (vmm, generation) = (vm.VmmPid, vm.Generation);
        using (var update = vm.StartUpdate(Components.Qemu111, engine, Armed(point, action)))
        {
            var result = await update.ResultAsync();
            var report = vm.Report(result, ExpectedExit(point, result));
            ExpectTheRightReport(report, point, action);
        }

        await vm.ExpectOneRunningVmmAsync();
        if (AfterTheCommit.Contains(point))
            Assert.NotEqual(vmm, vm.VmmPid);
        else
            Assert.Equal((vmm, generation), (vm.VmmPid, vm.Generation));
        await vm.ExpectNoMoreDescriptorsAsync(machine.Descriptors);

        var retry = await vm.UpdateAsync(Components.Qemu111, engine);
        Assert.Equal(engine, retry.GetProperty("engine").GetString());
        await vm.ExpectOneRunningVmmAsync();
        await vm.ExpectNoMoreDescriptorsAsync(machine.Descriptors);
    }

    private static int ExpectedExit(string point, ProgramResult result) => point switch
    {
        // Whether the old VMM has stopped by then is a race that both outcomes describe truly.
        "transfer.begin" => result.ExitCode == 1 ? 1 : 4,
        _ when BeforeThePause.Contains(point) => 1,
        _ when AfterTheCommit.Contains(point) => 0,
        _ => 4,
    };

    private static void ExpectTheRightReport(JsonElement report, string point, string action)
    {
        var paused = report.GetProperty("pauseMs").ValueKind == JsonValueKind.Number;
        Assert.Equal(report.GetProperty("outcome").GetString() is "updated" or "rolledBack", paused);
        if (paused)
            Assert.True(report.GetProperty("pauseMs").GetDouble() > 0, $"a pause has a length: {report}");
        if (AfterTheCommit.Contains(point) || OnTheWayBack.Contains(point))
            Assert.Contains(report.GetProperty("findings").EnumerateArray(), f => f.GetProperty("severity").GetString() == "warn");
        if (!AfterTheCommit.Contains(point))
            Assert.Equal(action == "error" || OnTheWayBack.Contains(point) ? "fault-injected" : "deadline", report.GetProperty("error").GetProperty("code").GetString());
    }

    /// <summary>The way back is only gone when something before it fails.</summary>
    private static string Armed(string point, string action) =>
        OnTheWayBack.Contains(point) ? $"commit.begin:error,{point}:{action}" : $"{point}:{action}";
}
