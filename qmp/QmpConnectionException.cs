namespace CprSharp.Qmp;

/// <summary>Why a QMP connection could not be made or ended.</summary>
public enum QmpConnectionFailure
{
    /// <summary>There is no connection: <see cref="QmpClient.ConnectAsync(string, CancellationToken)"/> was not called, or the connection ended earlier.</summary>
    NotConnected,

    /// <summary>The socket could not be connected.</summary>
    ConnectFailed,

    /// <summary>The peer connected but sent no greeting in time; QEMU serves one client per monitor, others wait without a greeting.</summary>
    GreetingTimeout,

    /// <summary>The first message was not a QMP greeting.</summary>
    GreetingMissing,

    /// <summary>The peer refused <c>qmp_capabilities</c>.</summary>
    NegotiationFailed,

    /// <summary>The peer closed the connection between two messages.</summary>
    EndOfStream,

    /// <summary>The peer closed the connection inside a message.</summary>
    TruncatedMessage,

    /// <summary>A message was longer than the limit, or nested too deeply.</summary>
    OversizeMessage,

    /// <summary>The peer sent something that is not JSON, or JSON that is not a QMP message.</summary>
    InvalidMessage,

    /// <summary>An error without id arrived that cannot be assigned to one command for certain.</summary>
    UnassignableError,

    /// <summary>The socket reported an error.</summary>
    Io,

    /// <summary>The peer does not read: more output is waiting than the limit allows.</summary>
    OutputOverflow,

    /// <summary>This side closed the connection.</summary>
    Disconnected,
}

/// <summary>The QMP connection could not be made, or broke. The client is back at <see cref="QmpClientState.Idle"/> and can connect again.</summary>
public sealed class QmpConnectionException : IOException
{
    /// <param name="failure">The cause, for programs.</param>
    /// <param name="message">The cause, for people.</param>
    /// <param name="innerException">The exception underneath, if there is one.</param>
    public QmpConnectionException(QmpConnectionFailure failure, string message, Exception? innerException = null)
        : base(message, innerException) => Failure = failure;

    /// <summary>The cause, for programs.</summary>
    public QmpConnectionFailure Failure { get; }

    /// <summary>The same cause for another waiter: an exception that is thrown twice would carry a mixed stack trace.</summary>
    internal QmpConnectionException Copy() => new(Failure, Message, this);
}
