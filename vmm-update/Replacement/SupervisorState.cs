using System.Text.Json.Serialization;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>All that a supervisor is, for the program that takes its place in its process. Descriptors are the numbers of open ones.</summary>
internal sealed record SupervisorState
{
    /// <summary>The form of this record. A member that an older program can do without does not change it.</summary>
    public const int CurrentSchema = 1;

    /// <summary>The oldest form that this program can read.</summary>
    public const int OldestSchema = 1;

    public int Schema { get; init; } = CurrentSchema;

    public required string StateDirectory { get; init; }

    public required VmRecord Record { get; init; }

    public required VmmState Vmm { get; init; }

    public required HeldState Held { get; init; }

    public required ConsoleState[] Consoles { get; init; }

    /// <summary>Where QMP clients come in.</summary>
    public required int[] Listeners { get; init; }

    public required ClientState[] Clients { get; init; }

    /// <summary>The file whose lock says who supervises.</summary>
    public required int Lock { get; init; }

    /// <summary>Null when there is none.</summary>
    public GuardianState? Guardian { get; init; }

    /// <summary>The program that wrote this.</summary>
    public required Reporting.ProgramIdentity From { get; init; }

    /// <summary>The program that reads it, as it was asked for.</summary>
    public required string To { get; init; }

    /// <summary>When clients were last served: the kernel's monotonic clock, which an exec does not touch.</summary>
    public required long PausedAt { get; init; }
}

/// <summary>The VMM and our connection to its monitor.</summary>
/// <param name="Generation">Its number.</param>
/// <param name="Binary">Its executable.</param>
/// <param name="QmpPath">Its monitor's socket.</param>
/// <param name="PidFd">The process.</param>
/// <param name="IsChild">Whether it is the supervisor's child, and so to be reaped.</param>
/// <param name="Qmp">The connection.</param>
/// <param name="Connection">Its state.</param>
internal sealed record VmmState(int Generation, string Binary, string QmpPath, int PidFd, bool IsChild, int Qmp, QmpClientSnapshot Connection);

/// <summary>A QMP client.</summary>
/// <param name="Socket">Its connection.</param>
/// <param name="Connection">The connection's state.</param>
internal sealed record ClientState(int Socket, QmpServerSnapshot Connection);

/// <summary>A descriptor that VMMs get.</summary>
/// <param name="Number">Its number in a VMM.</param>
/// <param name="Descriptor">Its number here.</param>
internal sealed record HeldNumber(int Number, int Descriptor);

/// <summary>What is held for the VM's life.</summary>
internal sealed record HeldState
{
    public required HeldNumber[] Descriptors { get; init; }

    public required HeldNumber[] Taps { get; init; }
}

/// <summary>A console with its client and the bytes under way.</summary>
internal sealed record ConsoleState
{
    public required string Id { get; init; }

    /// <summary>The listening socket, or a pseudoterminal's master.</summary>
    public required int Door { get; init; }

    /// <summary>The pseudoterminal's name, for programs that do not ask the kernel for it.</summary>
    public string? Terminal { get; init; }

    public bool HasClient { get; init; }

    /// <summary>The client's socket; null for whoever has the terminal open.</summary>
    public int? Client { get; init; }

    public bool ClientDone { get; init; }

    public bool ClientGone { get; init; }

    public bool LinkDone { get; init; }

    public bool InputEnded { get; init; }

    public byte[] ToVmm { get; init; } = [];

    public byte[] ToClient { get; init; } = [];

    /// <summary>The last bytes that the VMM was given.</summary>
    public byte[] Sent { get; init; } = [];

    public LinkState? Link { get; init; }

    /// <summary>To VMMs that have ended, with output that is not yet read.</summary>
    public LinkState[] Former { get; init; } = [];
}

/// <summary>A console's connection to a VMM.</summary>
internal sealed record LinkState
{
    public required int Ours { get; init; }

    /// <summary>Our hold of the VMM's end; null when let go.</summary>
    public int? Theirs { get; init; }

    public GreetingState? Greeting { get; init; }
}

/// <summary>How much of a VMM's greeting is still to be left out.</summary>
/// <param name="Skipped">Bytes whatever they are.</param>
/// <param name="Monitor">Bytes up to a prompt, at most.</param>
/// <param name="Matched">Bytes of the prompt seen.</param>
internal sealed record GreetingState(int Skipped, int Monitor, int Matched);

/// <summary>The guardian.</summary>
/// <param name="Pipe">Whose end tells it that we have ended.</param>
/// <param name="PidFd">Its process, a child.</param>
internal sealed record GuardianState(int Pipe, int PidFd);

/// <summary>What a program says about itself to one that would be replaced by it.</summary>
/// <param name="Program">Always <see cref="Name"/>.</param>
/// <param name="Version">Its version.</param>
/// <param name="Oldest">The oldest <see cref="SupervisorState"/> it reads.</param>
/// <param name="Newest">The newest.</param>
/// <param name="Record">The newest <see cref="VmRecord"/> it reads.</param>
internal sealed record ReplacementOffer(string Program, string Version, int Oldest, int Newest, int Record)
{
    public const string Name = "cprsharp";

    public static ReplacementOffer Own { get; } =
        new(Name, Reporting.ProgramIdentity.OwnVersion, SupervisorState.OldestSchema, SupervisorState.CurrentSchema, VmRecord.CurrentSchema);
}

/// <summary>Serialisation of a supervisor's state.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(SupervisorState))]
[JsonSerializable(typeof(ReplacementOffer))]
internal sealed partial class SupervisorStateJson : JsonSerializerContext;
