using System.Collections.Immutable;
using System.Diagnostics;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Times the phases of one update on the monotonic clock, so that a jump of the wall clock shows in no report.</summary>
internal sealed class PhaseClock(Action<UpdatePhase>? entered = null)
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly List<PhaseTiming> _done = [];
    private UpdatePhase? _current;
    private long _currentStart;

    public UpdatePhase? Current => _current;

    public long Began => _start;

    public double TotalMs => Stopwatch.GetElapsedTime(_start).TotalMilliseconds;

    public ImmutableArray<PhaseTiming> Phases => [.. _done];

    public void Enter(UpdatePhase phase)
    {
        End();
        _current = phase;
        _currentStart = Stopwatch.GetTimestamp();
        entered?.Invoke(phase);
    }

    public void End()
    {
        if (_current is not { } phase)
            return;

        var started = Stopwatch.GetElapsedTime(_start, _currentStart).TotalMilliseconds;
        _done.Add(new PhaseTiming(phase, Math.Round(started, 3), Math.Round(Stopwatch.GetElapsedTime(_currentStart).TotalMilliseconds, 3)));
        _current = null;
    }
}
