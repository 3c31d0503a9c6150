namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>A QEMU command line that cannot be run under supervision, or is not one that QEMU would take.</summary>
/// <remarks>The message names the cause; <see cref="Option"/> the object and <see cref="Fix"/> what the operator can change.</remarks>
public sealed class CommandLineException : Exception
{
    /// <summary>Creates the exception.</summary>
    public CommandLineException(string option, string cause, string fix, Exception? inner = null)
        : base($"{option}: {cause} ({fix})", inner)
    {
        Option = option;
        Cause = cause;
        Fix = fix;
    }

    /// <summary>The option at fault, as the user wrote it.</summary>
    public string Option { get; }

    /// <summary>What is wrong with it.</summary>
    public string Cause { get; }

    /// <summary>What the operator can change.</summary>
    public string Fix { get; }
}
