namespace CprSharp.VmmUpdate.Update;

/// <summary>Makes timestamps of the wall clock, which QEMU's events have, comparable when that clock is set in between.</summary>
internal sealed class SteadyClock(TimeProvider time)
{
    /// <summary>Between two looks at two clocks this process may have been kept from the processor for as long.</summary>
    private static readonly TimeSpan Unsure = TimeSpan.FromMilliseconds(100);

    /// <summary>What is read is never as old: the clock was set after it was written.</summary>
    private static readonly TimeSpan Moment = TimeSpan.FromMinutes(1);

    private readonly TimeSpan _ahead = Ahead(time, Wall(time));

    public SteadyClock()
        : this(TimeProvider.System)
    {
    }

    /// <summary>What the wall clock would have said, had nobody set it since this was made.</summary>
    /// <param name="microseconds">What it said a moment ago.</param>
    public long Steady(long microseconds)
    {
        var wall = Wall(time);
        var written = TimeSpan.FromMicroseconds(microseconds);
        if (wall - written < -Unsure || wall - written > Moment)
            written = wall;
        var step = Ahead(time, wall) - _ahead;
        return (step.Duration() < Unsure ? written : written - step).Ticks / TimeSpan.TicksPerMicrosecond;
    }

    private static TimeSpan Wall(TimeProvider time) => time.GetUtcNow() - DateTimeOffset.UnixEpoch;

    /// <summary>By how much the wall clock is ahead of the one that nobody sets.</summary>
    private static TimeSpan Ahead(TimeProvider time, TimeSpan wall) => wall - time.GetElapsedTime(0);
}
