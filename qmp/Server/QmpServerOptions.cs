namespace CprSharp.Qmp;

/// <summary>Settings of a <see cref="QmpServer"/>. The callbacks run on the connection's own tasks and must not block.</summary>
public sealed record QmpServerOptions
{
    /// <summary>What each new client is told; a proxy gives the greeting of the VMM behind it. Out-of-band is possible when it offers <c>oob</c>.</summary>
    public required Func<QmpGreeting> Greeting { get; init; }

    /// <summary>Largest message accepted, in bytes, at least 1024; a longer one is answered with an error and skipped. Default 64 MiB, as QEMU.</summary>
    public int MaxMessageBytes { get; init; } = QmpClientOptions.DefaultMaxMessageBytes;

    /// <summary>
    /// Output in bytes that may wait for a client that does not read, at least 1024; beyond it the connection ends, because leaving
    /// something out in silence would be worse. Default 64 MiB. One message alone may be larger.
    /// </summary>
    public long MaxQueuedOutputBytes { get; init; } = 64 * 1024 * 1024;

    /// <summary>Connections served at once per server, at least 1; more wait in the listener's backlog. Default 64.</summary>
    public int MaxConnections { get; init; } = 64;

    /// <summary>
    /// Hand commands with members that the specification does not have to the handler, as a proxy does for the VMM to judge. Default
    /// false: they are refused, as QEMU does.
    /// </summary>
    public bool PassUnknownMembers { get; init; }

    /// <summary>Whether to serve this peer (null: not a Unix socket). Refused ones are closed without a word. Default: everybody.</summary>
    public Func<QmpPeerCredentials?, bool>? Authorize { get; init; }

    /// <summary>Called when a client has finished negotiation, before its first command.</summary>
    public Action<QmpServerConnection>? ConnectionNegotiated { get; init; }

    /// <summary>Called when a connection is over, with why.</summary>
    public Action<QmpServerConnection, QmpConnectionException>? ConnectionClosed { get; init; }

    /// <summary>Called when a handler threw something other than <see cref="QmpException"/>; the client has been sent a GenericError.</summary>
    public Action<QmpServerCommand, Exception>? HandlerFailed { get; init; }

    internal static QmpServerOptions Validate(QmpServerOptions options)
    {
        var wrong = options switch
        {
            { MaxMessageBytes: < 1024 } => $"MaxMessageBytes is {options.MaxMessageBytes}; it must be at least 1024.",
            { MaxQueuedOutputBytes: < 1024 } => $"MaxQueuedOutputBytes is {options.MaxQueuedOutputBytes}; it must be at least 1024.",
            { MaxConnections: < 1 } => $"MaxConnections is {options.MaxConnections}; it must be at least 1.",
            _ => null,
        };
        return wrong is null ? options : throw new ArgumentOutOfRangeException(nameof(options), wrong);
    }
}
