namespace CprSharp.Qmp;

/// <summary>States of a <see cref="QmpClient"/>. Every path leads back to <see cref="Idle"/>.</summary>
public enum QmpClientState
{
    /// <summary>No connection; <see cref="QmpClient.ConnectAsync(string, CancellationToken)"/> may be called.</summary>
    Idle,

    /// <summary>The socket is being connected.</summary>
    Connecting,

    /// <summary>Waiting for the greeting and the answer to <c>qmp_capabilities</c>.</summary>
    Negotiating,

    /// <summary>Commands are accepted.</summary>
    Running,

    /// <summary>The connection is being taken down.</summary>
    Disconnecting,
}

/// <summary>Settings of a <see cref="QmpClient"/>.</summary>
public sealed record QmpClientOptions
{
    /// <summary>QEMU's own limit on one message (qobject/json-streamer.c, MAX_TOKEN_SIZE).</summary>
    public const int DefaultMaxMessageBytes = 64 * 1024 * 1024;

    /// <summary>What the framework's timers can do: about 49 days.</summary>
    internal static readonly TimeSpan LongestTimeout = TimeSpan.FromMilliseconds(uint.MaxValue - 1);

    /// <summary>Enable out-of-band execution when the VMM offers it. Default true.</summary>
    public bool EnableOutOfBand { get; init; } = true;

    /// <summary>Largest message accepted, in bytes, at least 1024; a longer one ends the connection. Default 64 MiB.</summary>
    public int MaxMessageBytes { get; init; } = DefaultMaxMessageBytes;

    /// <summary>Time for greeting and negotiation together. Default 30 s.</summary>
    public TimeSpan GreetingTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Deadline of a command that sets none itself. Default null: none.</summary>
    public TimeSpan? CommandTimeout { get; init; }

    /// <summary>Events a subscription holds for a reader that lags, at least 1; see <see cref="QmpEventsMissedException"/>. Default 4096.</summary>
    public int EventBufferLimit { get; init; } = 4096;

    /// <summary>
    /// Continue the code that awaits a reply or event on the reading loop itself, without a thread hop (default true). Such code must not
    /// block the thread waiting for another reply of the same client; set false where that cannot be ruled out.
    /// </summary>
    public bool InlineContinuations { get; init; } = true;

    internal static QmpClientOptions Validate(QmpClientOptions options)
    {
        var wrong = options switch
        {
            { MaxMessageBytes: < 1024 } => $"MaxMessageBytes is {options.MaxMessageBytes}; it must be at least 1024.",
            { EventBufferLimit: < 1 } => $"EventBufferLimit is {options.EventBufferLimit}; it must be at least 1.",
            _ when options.GreetingTimeout <= TimeSpan.Zero || options.GreetingTimeout > LongestTimeout =>
                $"GreetingTimeout is {options.GreetingTimeout}; it must be positive and at most {LongestTimeout}.",
            _ when options.CommandTimeout <= TimeSpan.Zero || options.CommandTimeout > LongestTimeout =>
                $"CommandTimeout is {options.CommandTimeout}; it must be positive and at most {LongestTimeout}, or null for none.",
            _ => null,
        };
        return wrong is null ? options : throw new ArgumentOutOfRangeException(nameof(options), wrong);
    }
}
