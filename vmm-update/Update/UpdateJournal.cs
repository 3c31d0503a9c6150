using CprSharp.VmmUpdate.PassThrough;

namespace CprSharp.VmmUpdate.Update;

/// <summary>What a supervisor that takes over must know of an update that was interrupted.</summary>
/// <remarks>
/// Names both processes; which of the two runs the guest is asked from themselves, because no file can be as true as the run states:
/// the new VMM runs only if the supervisor resumed it, the old one can resume by itself only before it reported completion.
/// </remarks>
/// <param name="Schema">Version of this form; a reader refuses a newer one.</param>
/// <param name="Engine">The engine.</param>
/// <param name="OldGeneration">The VMM the guest ran on.</param>
/// <param name="NewGeneration">The VMM it goes to.</param>
/// <param name="NewPid">Process id of the new VMM.</param>
/// <param name="NewStartTicks">Start time of that process (<c>/proc/PID/stat</c>, field 22), so that a reused id is not mistaken for it.</param>
/// <param name="NewBinary">Its executable.</param>
/// <param name="WasRunning">Whether the guest was running when the update began.</param>
/// <param name="NewVersion">Its version.</param>
/// <param name="Started">When the update began (UTC).</param>
/// <param name="CompletionIsFinal">Whether the old VMM cannot resume once it is <c>postmigrate</c> (<see cref="Engines.IUpdateEngine.CompletionIsFinal"/>).</param>
/// <param name="TakenOut">Written before the first one goes: the BARs that whichever VMM keeps the guest must have back.</param>
internal sealed record UpdateJournal(
    int Schema,
    string Engine,
    int OldGeneration,
    int NewGeneration,
    int NewPid,
    long NewStartTicks,
    string NewBinary,
    bool WasRunning,
    string NewVersion = "",
    DateTimeOffset Started = default,
    bool CompletionIsFinal = false,
    IReadOnlyList<TakenOutBar>? TakenOut = null)
{
    public const int CurrentSchema = 1;

    /// <summary>When the update began, on the clock that nobody sets (<see cref="System.Diagnostics.Stopwatch"/>); 0 in journals of older versions.</summary>
    public long Began { get; init; }
}
