using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Planning;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Checks;

public sealed class PlannerTests
{
    private static readonly IEngine Transfer = new TransferEngine();
    private static readonly IEngine Exec = new ExecEngine();
    private static readonly IEngine SharedRam = new SharedRamEngine();

    [Fact]
    public void Auto_takes_the_shortest_expected_pause() =>
        Assert.Equal("shared-ram", Plan("auto", [], Fits(Transfer, 9), Fits(SharedRam, 7)).Engine!.Name);

    [Fact]
    public void A_failing_finding_refuses_and_is_named()
    {
        var plan = Plan("auto", [Finding.Warn("w", "x", "", ""), Finding.Fail("vfio", "dev0", "why", "fix")], Fits(Transfer, 9));

        Assert.Null(plan.Engine);
        Assert.Equal(("vfio", "fix"), (plan.Refusal!.Code, plan.Refusal.Fix));
        Assert.Contains("dev0", plan.Refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_fitting_engine_every_reason_is_told()
    {
        var plan = Plan("auto", [], Not(Transfer, "too old"), Not(SharedRam, "private RAM"));

        Assert.Contains("too old", plan.Refusal!.Message, StringComparison.Ordinal);
        Assert.Contains("private RAM", plan.Refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_engine_that_is_asked_for_and_does_not_fit_is_not_replaced_by_another()
    {
        var plan = Plan("transfer", [], Not(Transfer, "too old"), Fits(SharedRam, 7));

        Assert.Null(plan.Engine);
        Assert.Equal("engine-not-eligible", plan.Refusal!.Code);
    }

    [Fact]
    public void An_unknown_engine_is_refused() => Assert.Equal("engine-unknown", Plan("warp", [], Fits(Transfer, 9)).Refusal!.Code);

    [Fact]
    public void Exec_is_only_taken_when_it_is_asked_for()
    {
        Assert.Equal("transfer", Plan("auto", [], Fits(Exec, 1), Fits(Transfer, 9)).Engine!.Name);
        Assert.Equal("exec", Plan("exec", [], Fits(Exec, 90), Fits(Transfer, 9)).Engine!.Name);

        var refused = Plan("auto", [], Fits(Exec, 1), Not(Transfer, "too old"));
        Assert.Null(refused.Engine);
        Assert.Contains("--engine exec", refused.Refusal!.Fix, StringComparison.Ordinal);
    }

    private static UpdatePlan Plan(string engine, Finding[] findings, params (IEngine, EngineAssessment)[] engines) =>
        UpdatePlanner.Plan(new UpdateRequest("/usr/bin/qemu", engine, DryRun: false), new CheckResult([.. findings], [.. engines]));

    private static (IEngine, EngineAssessment) Fits(IEngine engine, double pause) => (engine, new EngineAssessment(engine.Name, true, [], pause));

    private static (IEngine, EngineAssessment) Not(IEngine engine, string reason) => (engine, new EngineAssessment(engine.Name, false, [reason], null));
}
