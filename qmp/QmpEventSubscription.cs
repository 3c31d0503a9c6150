using System.Threading.Channels;
using CprSharp.Qmp.Client;

namespace CprSharp.Qmp;

/// <summary>
/// The events from the moment of <see cref="QmpClient.Subscribe"/> on, in the order of arrival. It ends with the connection: quietly after
/// <see cref="QmpClient.DisconnectAsync"/>, with <see cref="QmpConnectionException"/> when the connection broke, and with
/// <see cref="QmpEventsMissedException"/> when the reader lagged too far. Events that arrived before the end are delivered first.
/// </summary>
/// <remarks>For one reader at a time.</remarks>
public sealed class QmpEventSubscription : IAsyncEnumerable<QmpEvent>, IDisposable
{
    private readonly EventHub _hub;
    private readonly string[] _names;
    private readonly int _limit;
    private readonly Channel<QmpEvent> _channel;
    private QmpConnectionException? _cause;
    private long _missed;

    internal QmpEventSubscription(EventHub hub, string[] names, int limit, bool inline)
    {
        _hub = hub;
        _names = names;
        _limit = limit;
        _channel = Channel.CreateBounded<QmpEvent>(new BoundedChannelOptions(limit)
        {
            SingleReader = true,
            AllowSynchronousContinuations = inline,
        });
    }

    /// <summary>The next event.</summary>
    /// <exception cref="QmpConnectionException">The connection ended, by either side.</exception>
    /// <exception cref="QmpEventsMissedException">Events were missed, see there.</exception>
    public Task<QmpEvent> NextAsync(CancellationToken ct = default) => NextAsync(static _ => true, ct);

    /// <summary>The next event that matches; those before it are consumed.</summary>
    /// <inheritdoc cref="NextAsync(CancellationToken)"/>
    public async Task<QmpEvent> NextAsync(Func<QmpEvent, bool> match, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(match);
        while (await WaitAsync(ct))
        {
            while (_channel.Reader.TryRead(out var candidate))
            {
                if (match(candidate)) return candidate;
            }
        }

        throw new QmpConnectionException(QmpConnectionFailure.Disconnected, "The QMP connection was closed by this side; no more events come.");
    }

    /// <inheritdoc/>
    public async IAsyncEnumerator<QmpEvent> GetAsyncEnumerator(CancellationToken cancellationToken = default)
    {
        while (await WaitAsync(cancellationToken))
        {
            while (_channel.Reader.TryRead(out var next)) yield return next;
        }
    }

    /// <summary>Stops the delivery; a waiting reader sees a quiet end.</summary>
    public void Dispose()
    {
        _hub.Remove(this);
        _channel.Writer.TryComplete();
    }

    internal bool Wants(string name) => _names.Length == 0 || Array.IndexOf(_names, name) >= 0;

    internal void Deliver(QmpEvent e)
    {
        if (_channel.Writer.TryWrite(e)) return;
        // Disposed by the reader: nobody is left who could miss it.
        if (_channel.Reader.Completion.IsCompleted) return;
        Interlocked.Increment(ref _missed);
        // From here on every write fails, so that nothing follows the gap.
        _channel.Writer.TryComplete();
    }

    internal void End(QmpConnectionException? cause)
    {
        _cause = cause;
        _channel.Writer.TryComplete();
    }

    private async ValueTask<bool> WaitAsync(CancellationToken ct)
    {
        if (await _channel.Reader.WaitToReadAsync(ct)) return true;
        if (Interlocked.Read(ref _missed) is > 0 and var missed)
        {
            _hub.Remove(this);
            throw new QmpEventsMissedException(missed, _limit);
        }

        return _cause is { } cause ? throw cause.Copy() : false;
    }
}
