using CprSharp.Qmp.Protocol;

namespace CprSharp.Qmp.Client;

/// <summary>Hands each event to every subscription that wants it, on the reading loop.</summary>
internal sealed class EventHub(QmpClientOptions options)
{
    private readonly Lock _gate = new();
    private QmpEventSubscription[] _subscriptions = [];

    public QmpEventSubscription Add(string[] names)
    {
        var subscription = new QmpEventSubscription(this, [.. names], options.EventBufferLimit, options.InlineContinuations);
        lock (_gate) _subscriptions = [.. _subscriptions, subscription];
        return subscription;
    }

    public void Remove(QmpEventSubscription subscription)
    {
        lock (_gate) _subscriptions = [.. _subscriptions.Where(s => s != subscription)];
    }

    public void Publish(ReadOnlyMemory<byte> line, Envelope envelope, string name)
    {
        QmpEvent? parsed = null;
        foreach (var subscription in Volatile.Read(ref _subscriptions))
        {
            if (subscription.Wants(name)) subscription.Deliver(parsed ??= MessageText.ToEvent(line, envelope, name));
        }
    }

    /// <summary>Takes the subscriptions of a connection that is over, so that those made from now on belong to the next one.</summary>
    public QmpEventSubscription[] Detach()
    {
        lock (_gate)
        {
            var detached = _subscriptions;
            _subscriptions = [];
            return detached;
        }
    }
}
