namespace CprSharp.VmmUpdate.Update;

/// <summary>What an operator asks for.</summary>
/// <param name="To">Path of the binary the guest is to run on.</param>
/// <param name="Engine">An engine's name, or <c>auto</c>; null takes the setting.</param>
/// <param name="DryRun">Stop after the plan.</param>
internal sealed record UpdateRequest(string To, string? Engine, bool DryRun)
{
    public FaultPlan Faults { get; init; } = FaultPlan.None;
}
