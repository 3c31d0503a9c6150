using System.Runtime.InteropServices;

namespace CprSharp.Memfd;

/// <summary>A descriptor that a child gets.</summary>
/// <param name="Handle">Stays the parent's; it may be closed once the child is started.</param>
/// <param name="Number">The number in the child, 3 or more.</param>
public readonly record struct InheritedDescriptor(SafeHandle Handle, int Number);

/// <summary>What <see cref="ChildProcess.Start"/> starts. Everything that is not said here the child does not get.</summary>
public sealed record ChildProcessStart
{
    /// <summary>The program's file; relative to this process's working directory, PATH is not searched.</summary>
    public required string Path { get; init; }

    /// <summary>argv from 1 on.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    /// <summary>argv[0]; null for <see cref="Path"/> as it is written. Not heeded with <see cref="EndsWithParent"/>.</summary>
    public string? Argv0 { get; init; }

    /// <summary>The whole environment; null to inherit ours.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    /// <summary>The child's working directory; null for ours.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>Descriptors besides 0, 1 and 2, in any order; each number once.</summary>
    public IReadOnlyList<InheritedDescriptor> Descriptors { get; init; } = [];

    /// <summary>Descriptor 0; null for /dev/null.</summary>
    public SafeHandle? StandardInput { get; init; }

    /// <summary>Descriptor 1; null to inherit ours.</summary>
    public SafeHandle? StandardOutput { get; init; }

    /// <summary>Descriptor 2; null to inherit ours.</summary>
    public SafeHandle? StandardError { get; init; }

    /// <summary>Makes the child the leader of a new process group, so that a terminal's Ctrl-C does not reach it.</summary>
    public bool NewProcessGroup { get; init; }

    /// <summary>
    /// The kernel kills the child when this process ends, however it ends (PR_SET_PDEATHSIG(2const)). It is started by util-linux's setpriv,
    /// which becomes the program. The kernel takes the thread that starts a child for its parent, so it gets one of its own, which waits.
    /// </summary>
    public bool EndsWithParent { get; init; }

    /// <summary>Makes the child the leader of a new session (setsid(2)), without a terminal; includes a new process group.</summary>
    public bool NewSession { get; init; }
}
