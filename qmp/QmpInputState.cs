namespace CprSharp.Qmp;

/// <summary>What was read from a connection and not yet used: the beginning of a message, and how far it was looked at.</summary>
public sealed record QmpInputState
{
    /// <summary>The bytes.</summary>
    public byte[] Bytes { get; init; } = [];

    /// <summary>How many of them were looked at.</summary>
    public int Scanned { get; init; }

    /// <summary>Open brackets.</summary>
    public int Depth { get; init; }

    /// <summary>The quotation mark of the string that is open, or 0.</summary>
    public byte Quote { get; init; }

    /// <summary>Whether the next character is escaped.</summary>
    public bool Escaped { get; init; }

    /// <summary>Whether garbage is being passed over.</summary>
    public bool Recovering { get; init; }

    /// <summary>Whether QEMU's own single-quoted strings were seen in the message.</summary>
    public bool SingleQuotes { get; init; }

    /// <summary>Whether the rest of a message that is too long is being passed over.</summary>
    public bool Discarding { get; init; }
}

/// <summary>A <see cref="QmpClient"/>'s connection besides its socket, for a process that is to go on with it.</summary>
public sealed record QmpClientSnapshot
{
    /// <summary>What the VMM said first.</summary>
    public required QmpGreeting Greeting { get; init; }

    /// <summary>Whether out-of-band execution was negotiated.</summary>
    public required bool OutOfBandEnabled { get; init; }

    /// <summary>The last id used for a command.</summary>
    public required long LastId { get; init; }

    /// <summary>What was read and not yet used.</summary>
    public required QmpInputState Input { get; init; }
}

/// <summary>A <see cref="QmpServerConnection"/> besides its socket, for a process that is to go on with it.</summary>
public sealed record QmpServerSnapshot
{
    /// <summary>Whether the client has negotiated.</summary>
    public required bool Negotiated { get; init; }

    /// <summary>Whether out-of-band execution was offered.</summary>
    public required bool OffersOutOfBand { get; init; }

    /// <summary>Whether the client has enabled it.</summary>
    public required bool OutOfBandEnabled { get; init; }

    /// <summary>What was read and not yet used.</summary>
    public required QmpInputState Input { get; init; }

    /// <summary>What the client has not yet been able to take.</summary>
    public byte[] Output { get; init; } = [];

    /// <summary>Set when a command waits for its reply: the client's id as JSON text, empty when it sent none.</summary>
    public byte[]? UnansweredId { get; init; }
}
