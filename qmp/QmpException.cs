namespace CprSharp.Qmp;

/// <summary>The VMM answered a command with an error. The connection stays usable.</summary>
/// <remarks>In a server's handler, throwing it sends this error to the client.</remarks>
public sealed class QmpException : Exception
{
    /// <param name="command">The command that was refused.</param>
    /// <param name="errorClass">One of <see cref="QmpErrorClass"/>, or a class this library does not know.</param>
    /// <param name="description">Text for people; QEMU asks clients not to parse it.</param>
    public QmpException(string command, string errorClass, string description)
        : base($"{command}: {errorClass}: {description}")
    {
        Command = command;
        ErrorClass = errorClass;
        Description = description;
    }

    /// <summary>The command that was refused.</summary>
    public string Command { get; }

    /// <summary>The error class, see <see cref="QmpErrorClass"/>.</summary>
    public string ErrorClass { get; }

    /// <summary>Text for people; QEMU asks clients not to parse it.</summary>
    public string Description { get; }
}

/// <summary>The error classes that QEMU knows (qapi/error.json, QapiErrorClass).</summary>
public static class QmpErrorClass
{
    /// <summary>Everything that has no class of its own.</summary>
    public const string GenericError = "GenericError";

    /// <summary>The command does not exist, or is not allowed in this state (negotiation not done).</summary>
    public const string CommandNotFound = "CommandNotFound";

    /// <summary>A device is not active.</summary>
    public const string DeviceNotActive = "DeviceNotActive";

    /// <summary>A device does not exist.</summary>
    public const string DeviceNotFound = "DeviceNotFound";

    /// <summary>KVM lacks a capability that is needed.</summary>
    public const string KVMMissingCap = "KVMMissingCap";
}
