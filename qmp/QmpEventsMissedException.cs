namespace CprSharp.Qmp;

/// <summary>
/// A subscriber did not read its events in time and its buffer filled up. The events up to the gap were delivered; this exception ends the
/// stream in place of the missing ones. Subscribe again and query the state that the events would have told.
/// </summary>
public sealed class QmpEventsMissedException : Exception
{
    /// <param name="missed">How many events were missed up to now.</param>
    /// <param name="limit">The buffer's limit (<see cref="QmpClientOptions.EventBufferLimit"/>).</param>
    public QmpEventsMissedException(long missed, int limit)
        : base($"{missed} event(s) were missed because the subscriber left {limit} unread; read faster or raise EventBufferLimit.") =>
        Missed = missed;

    /// <summary>How many events were missed when the gap was noticed.</summary>
    public long Missed { get; }
}
