namespace CprSharp.VmmUpdate.Update;

/// <summary>Makes timestamps of the wall clock, which QEMU's events have, comparable when that clock is set in between.</summary>
internal sealed class SteadyClock(TimeProvider time)
{
    /// <summary>Between two looks at two clocks this process may have been kept from the processor for as long.</summary>
    private static readonly TimeSpan Unsure = TimeSpan.FromMilliseconds(100);

    /// <summary>What is read is never as old: the clock was set after it was written.</summary>
    private static readonly TimeSpan Moment = TimeSpan.FromMinutes(1);

    private readonly TimeSpan _ahead = Ahead(time);

    public SteadyClock()
        : this(TimeProvider.System)
    {
    }

    /// <summary>What the wall clock would have said, had nobody set it since this was made.</summary>
    /// <param name="microseconds">What it said a moment ago.</param>
    public long Steady(long microseconds)
    {
        var now = (time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        if (now - microseconds < -Unsure.TotalMicroseconds || now - microseconds > Moment.TotalMicroseconds)
            microseconds = now;
        var step = Ahead(time) - _ahead;
        return step.Duration() < Unsure ? microseconds : microseconds - (long)step.TotalMicroseconds;
    }

    /// <summary>By how much the wall clock is ahead of the one that nobody sets.</summary>
    private static TimeSpan Ahead(TimeProvider time) => time.GetUtcNow() - DateTimeOffset.UnixEpoch - time.GetElapsedTime(0);
}
