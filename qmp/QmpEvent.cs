using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.Qmp;

/// <summary>An asynchronous event of the VMM (QEMU docs/interop/qmp-spec.rst, "Asynchronous events").</summary>
/// <param name="Name">The event's name, for example <c>STOP</c>.</param>
/// <param name="Data">The event's data; an empty object when the event carries none.</param>
/// <param name="TimestampMicroseconds">Microseconds since the Unix epoch on the VMM's host clock; -1 when the VMM could not read its clock.</param>
public sealed record QmpEvent(string Name, JsonElement Data, long TimestampMicroseconds)
{
    private readonly ReadOnlyMemory<byte> _rawUtf8;

    /// <summary>
    /// The event as one line of JSON without line end: the received bytes for an event that came from a VMM,
    /// otherwise composed from the other properties. Sending it on keeps the original timestamp and unknown members.
    /// </summary>
    public ReadOnlyMemory<byte> RawUtf8
    {
        get => _rawUtf8.IsEmpty ? Protocol.MessageText.Event(Name, Data, TimestampMicroseconds) : _rawUtf8;
        init => _rawUtf8 = value;
    }

    /// <summary>The timestamp as a point in time, or null when the VMM could not read its clock.</summary>
    public DateTimeOffset? Timestamp =>
        TimestampMicroseconds < 0 ? null : DateTimeOffset.UnixEpoch.AddTicks(TimestampMicroseconds * TimeSpan.TicksPerMicrosecond);

    /// <summary>A new event with the current time, for a server to send.</summary>
    /// <param name="name">The event's name.</param>
    /// <param name="data">Its data; null for none.</param>
    public static QmpEvent Now(string name, JsonObject? data = null) =>
        new(name, data is null ? Protocol.MessageText.EmptyObject : Protocol.MessageText.ToElement(data), (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);
}
