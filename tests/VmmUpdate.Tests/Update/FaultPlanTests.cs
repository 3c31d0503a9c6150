using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Update;

public sealed class FaultPlanTests
{
    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("  ")]
    public void Nothing_armed_is_no_plan(string? text) => Assert.Same(FaultPlan.None, FaultPlan.Parse(text));

    [Fact]
    public void The_action_is_error_when_none_is_given() => Assert.Equal(["commit.begin:error"], FaultPlan.Parse("commit.begin").Armed);

    [Fact]
    public void Several_points_may_be_armed() =>
        Assert.Equal(["plan.made:hang", "rollback.begin:kill"], FaultPlan.Parse("plan.made:hang, rollback.begin:kill").Armed);

    [Theory]
    [InlineData("nowhere", "unknown fault point 'nowhere'")]
    [InlineData("plan.made:explode", "unknown fault action 'explode'")]
    public void What_is_unknown_is_named(string text, string message) =>
        Assert.Contains(message, Assert.Throws<FormatException>(() => FaultPlan.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public async Task An_armed_point_throws_and_others_pass()
    {
        var plan = FaultPlan.Parse("prepare.spawn:error");

        await plan.HitAsync(FaultPoint.PlanMade, CancellationToken.None);
        var fault = await Assert.ThrowsAsync<FaultInjectedException>(() => plan.HitAsync(FaultPoint.PrepareSpawn, CancellationToken.None).AsTask());

        Assert.Equal("prepare.spawn", fault.Point);
    }

    [Fact]
    public async Task A_hanging_point_ends_with_its_deadline()
    {
        using var deadline = new CancellationTokenSource();
        var hanging = FaultPlan.Parse("prepare.spawn:hang").HitAsync(FaultPoint.PrepareSpawn, deadline.Token).AsTask();
        Assert.False(hanging.IsCompleted);

        await deadline.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => hanging);
    }
}
