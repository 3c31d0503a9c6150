using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>When an option is on the command line of a VMM of this VM.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<OptionScope>))]
public enum OptionScope
{
    /// <summary>For every VMM.</summary>
    Always,

    /// <summary>Only for the VMM that starts the guest.</summary>
    FirstStart,

    /// <summary>Only for a VMM that takes a running guest over.</summary>
    UpdateTarget,
}

/// <summary>One option of an updatable VM.</summary>
/// <param name="Name">Without dashes.</param>
/// <param name="Value">Argument, <see langword="null"/> for an option without one.</param>
/// <param name="TargetValue">Argument for the target of an update where it differs from <paramref name="Value"/>.</param>
/// <param name="Scope">When the option is there.</param>
public sealed record SpecOption(string Name, string? Value, string? TargetValue = null, OptionScope Scope = OptionScope.Always)
{
    internal string Text => Value ?? "";

    /// <inheritdoc/>
    public override string ToString() => Value is null ? $"-{Name}" : $"-{Name} {Value}";
}

/// <summary>How much a finding weighs.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<FindingSeverity>))]
public enum FindingSeverity
{
    /// <summary>Works; said because operators ask.</summary>
    [JsonStringEnumMemberName("pass")]
    Pass,

    /// <summary>The guest survives an update, something around it is noticed.</summary>
    [JsonStringEnumMemberName("warn")]
    Warn,

    /// <summary>The VM cannot be updated as it is.</summary>
    [JsonStringEnumMemberName("fail")]
    Fail,
}

/// <summary>What the command line says about the VM's updatability.</summary>
/// <param name="Id">Stable name of the kind of finding.</param>
/// <param name="Severity">How much it weighs.</param>
/// <param name="Object">Which device, backend or option.</param>
/// <param name="Evidence">What was seen and what it leads to.</param>
/// <param name="Fix">What the operator can change, empty when nothing need be.</param>
public sealed record SpecFinding(string Id, FindingSeverity Severity, string Object, string Evidence, string Fix);

/// <summary>A descriptor that the supervisor creates once, holds for the VM's life, and gives to every VMM of the VM at the same
/// number; but for <see cref="PassedThroughDescriptor"/>.</summary>
/// <param name="Number">Number in the child.</param>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "kind")]
[JsonDerivedType(typeof(GuestRamDescriptor), "guest-ram")]
[JsonDerivedType(typeof(ListenerDescriptor), "listener")]
[JsonDerivedType(typeof(ConsoleDescriptor), "console")]
[JsonDerivedType(typeof(TapDescriptor), "tap")]
[JsonDerivedType(typeof(IommufdDescriptor), "iommufd")]
[JsonDerivedType(typeof(PassedThroughDescriptor), "passed-through")]
public abstract record HeldDescriptor(int Number);

/// <summary>A memfd that is guest RAM.</summary>
/// <param name="Number">Number in the child.</param>
/// <param name="Id">Id of the memory backend.</param>
/// <param name="Size">Size in bytes.</param>
/// <param name="HugePageSize">Page size in bytes for a memfd on hugetlbfs, <see langword="null"/> for ordinary pages.</param>
public sealed record GuestRamDescriptor(int Number, string Id, long Size, long? HugePageSize = null) : HeldDescriptor(Number);

/// <summary>A listening stream socket.</summary>
/// <param name="Number">Number in the child.</param>
/// <param name="Chardev">Id of the character device that it belongs to.</param>
/// <param name="Address">Where it listens.</param>
public sealed record ListenerDescriptor(int Number, string Chardev, EndpointAddress Address) : HeldDescriptor(Number);

/// <summary>A character device whose clients the supervisor serves for the VM's life. What a VMM gets is a listening socket without a
/// name, to which nobody can connect: the supervisor hands it each client's connection over QMP (<c>add_client</c>).</summary>
/// <param name="Number">Number of that socket in the child.</param>
/// <param name="Chardev">Id of the character device; of the lower one where several devices share it.</param>
/// <param name="Address">Where clients come in.</param>
/// <param name="Wait">Whether the guest may not start before the first client has come (<c>wait=on</c>).</param>
/// <param name="Telnet">Whether the VMM speaks telnet on it.</param>
/// <param name="Monitor">Whether it is a human monitor and nothing else.</param>
public sealed record ConsoleDescriptor(
    int Number, string Chardev, EndpointAddress Address, bool Wait = false, bool Telnet = false, bool Monitor = false) : HeldDescriptor(Number);

/// <summary>A queue of a tap device. The VMM that runs the guest has it at <paramref name="Number"/>; every VMM has it at <paramref name="Spare"/>.</summary>
/// <remarks>
/// A VMM that is being prepared has a tap device on which nothing happens at <paramref name="Number"/>: what QEMU does to its tap when it
/// starts (no header, no offloads, queues detached, a first frame read) would break the network of the guest that still runs. A VMM that is
/// about to stop the guest is lent such a device, too: it would read one more frame, and die with it.
/// </remarks>
/// <param name="Number">Number in the child, as QEMU is told.</param>
/// <param name="Spare">Number of the queue itself.</param>
/// <param name="Netdev">Id of the network backend; its queues follow each other.</param>
/// <param name="Source">Where the queue comes from.</param>
public sealed record TapDescriptor(int Number, int Spare, string Netdev, TapSource Source) : HeldDescriptor(Number);

/// <summary>An IOMMU context (<c>/dev/iommu</c>).</summary>
/// <param name="Number">Number in the child.</param>
/// <param name="Object">Id of the iommufd object.</param>
public sealed record IommufdDescriptor(int Number, string Object) : HeldDescriptor(Number);

/// <summary>A passed-through device (<c>/dev/vfio/devices/vfioN</c>). Only the VMM that starts the guest gets it from the supervisor, which
/// does not keep it: QEMU hands it over to the next one, and closes it when the device is unplugged.</summary>
/// <param name="Number">Number in the child.</param>
/// <param name="Device">Id of the device.</param>
/// <param name="Host">PCI address of the device that the supervisor opens; <see langword="null"/> where its caller has.</param>
public sealed record PassedThroughDescriptor(int Number, string Device, string? Host = null) : HeldDescriptor(Number);

/// <summary>Where a tap queue comes from.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "type")]
[JsonDerivedType(typeof(TapInterface), "interface")]
[JsonDerivedType(typeof(TapHelper), "helper")]
[JsonDerivedType(typeof(TapInherited), "inherited")]
public abstract record TapSource;

/// <summary>The supervisor opens it.</summary>
/// <param name="Name">Name of the device; empty for one that the kernel chooses.</param>
/// <param name="Script">Program that is run with the device's name once it is there; <see langword="null"/> for none.</param>
/// <param name="DownScript">Program that is run with it when the guest has ended; <see langword="null"/> for none.</param>
/// <param name="VnetHeader">Whether frames carry virtio-net headers.</param>
/// <param name="MultiQueue">Whether it is one of several queues.</param>
public sealed record TapInterface(string Name, string? Script, string? DownScript, bool VnetHeader, bool MultiQueue) : TapSource;

/// <summary>A privileged helper opens it and attaches it to a bridge.</summary>
/// <param name="Helper">The program, or a command of the shell; <see langword="null"/> for QEMU's own.</param>
/// <param name="Bridge">The bridge.</param>
public sealed record TapHelper(string? Helper, string Bridge) : TapSource;

/// <summary>The supervisor's caller opened it.</summary>
public sealed record TapInherited : TapSource;

/// <summary>Where a socket listens or connects to.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "type")]
[JsonDerivedType(typeof(UnixAddress), "unix")]
[JsonDerivedType(typeof(TcpAddress), "tcp")]
[JsonDerivedType(typeof(DescriptorAddress), "descriptor")]
[JsonDerivedType(typeof(TerminalAddress), "terminal")]
public abstract record EndpointAddress;

/// <summary>A Unix socket.</summary>
/// <param name="Path">Path, or name in the abstract namespace.</param>
/// <param name="Abstract">Whether <paramref name="Path"/> is an abstract name.</param>
/// <param name="Tight">Whether an abstract name has just its length; else it is padded with NUL to 107 bytes.</param>
public sealed record UnixAddress(string Path, bool Abstract = false, bool Tight = true) : EndpointAddress;

/// <summary>A TCP socket.</summary>
/// <param name="Host">Host name or address; empty for every interface.</param>
/// <param name="Port">Port number or service name.</param>
/// <param name="To">Highest port to try when the ones from <paramref name="Port"/> up are taken.</param>
/// <param name="Ipv4">Whether IPv4 is wanted; <see langword="null"/> when not said.</param>
/// <param name="Ipv6">Whether IPv6 is wanted; <see langword="null"/> when not said.</param>
public sealed record TcpAddress(string Host, string Port, int? To = null, bool? Ipv4 = null, bool? Ipv6 = null) : EndpointAddress;

/// <summary>A socket that the caller of the supervisor opened.</summary>
/// <param name="Number">Its descriptor number in the supervisor.</param>
public sealed record DescriptorAddress(int Number) : EndpointAddress;

/// <summary>A pseudoterminal, which gets its name from the kernel.</summary>
/// <param name="Link">A symbolic link to it, or <see langword="null"/>.</param>
public sealed record TerminalAddress(string? Link) : EndpointAddress;

/// <summary>A QMP socket that the supervisor serves in QEMU's place.</summary>
/// <param name="Id">Id of the monitor (or its character device) on the user's command line.</param>
/// <param name="Address">Where.</param>
/// <param name="Listen">Whether to listen; else to connect there.</param>
/// <param name="Wait">Whether QEMU would wait for the first client before it starts the guest (<c>wait=on</c>, QEMU's default).</param>
/// <param name="Pretty">Whether answers are indented (<c>-qmp-pretty</c>).</param>
/// <param name="ReconnectMilliseconds">When connecting: after how many milliseconds to try again; 0 for never.</param>
/// <param name="Arguments">The character device's other options (telnet, tls-creds, …) as QEMU writes them; empty for a plain socket.</param>
public sealed record ClientSocket(
    string Id, EndpointAddress Address, bool Listen = true, bool Wait = false, bool Pretty = false, long ReconnectMilliseconds = 0,
    string Arguments = "");

/// <summary>A QMP command to the new VMM after Commit, once the old VMM has exited and its ports are free.</summary>
/// <param name="Command">Command name.</param>
/// <param name="Arguments">Arguments, a JSON object.</param>
/// <param name="Why">What it restores, as a sentence.</param>
public sealed record AfterCommitAction(string Command, string Arguments, string Why);

/// <summary>A QMP command that has set something.</summary>
/// <param name="Command">Command name.</param>
/// <param name="Subject">Which object; a later command for the same one takes its place.</param>
/// <param name="Arguments">Arguments, a JSON object.</param>
/// <param name="What">What it has set, such as <c>the I/O limits</c>.</param>
public sealed record KeptSetting(string Command, string Subject, string Arguments, string What);

/// <summary>A VM as the supervisor starts and updates it, made from an ordinary QEMU command line. Serialisable.</summary>
public sealed record VmSpec
{
    /// <summary>Version of this record's form.</summary>
    public const int CurrentSchema = 1;

    /// <summary>Version of the form that this one was written in.</summary>
    public int Schema { get; init; } = CurrentSchema;

    /// <summary>Canonical machine type, never an alias.</summary>
    public required string MachineType { get; init; }

    /// <summary>Options in the user's order, the machine's first.</summary>
    public ImmutableArray<SpecOption> Options { get; init; } = [];

    /// <summary>Descriptors that the supervisor creates.</summary>
    public ImmutableArray<HeldDescriptor> Descriptors { get; init; } = [];

    /// <summary>Numbers of the descriptors that the command line names: the supervisor has them from its own caller, keeps them, and
    /// gives them to every VMM at the same numbers.</summary>
    public ImmutableArray<int> InheritedDescriptors { get; init; } = [];

    /// <summary>QMP sockets that the supervisor serves.</summary>
    public ImmutableArray<ClientSocket> ClientSockets { get; init; } = [];

    /// <summary>What to do on the new VMM after Commit, in order.</summary>
    public ImmutableArray<AfterCommitAction> AfterCommit { get; init; } = [];

    /// <summary>What clients have set by QMP and no command line can say: repeated on every new VMM before it gets the guest.</summary>
    public ImmutableArray<KeptSetting> Settings { get; init; } = [];

    /// <summary>What was changed on the user's command line, one sentence each.</summary>
    public ImmutableArray<string> Changes { get; init; } = [];

    /// <summary>What stands in the way of an update, or will be noticed.</summary>
    public ImmutableArray<SpecFinding> Findings { get; init; } = [];

    /// <summary>Machine properties that the user left open: on for every binary that has them, left out for one that has not.</summary>
    public ImmutableArray<string> AddedMachineProperties { get; init; } = [];

    /// <summary>Whether the user asked for <c>-daemonize</c>; the supervisor goes to the background, QEMU does not.</summary>
    public bool Daemonize { get; init; }

    /// <summary>Where the supervisor writes its process id (<c>-pidfile</c>).</summary>
    public string? PidFile { get; init; }
}

/// <summary>Result of a translation.</summary>
/// <param name="Spec">The VM; <see langword="null"/> when the command line starts none (help, version).</param>
/// <param name="Arguments">The user's own arguments, to pass to QEMU unchanged when there is no VM.</param>
public sealed record LaunchTranslation(VmSpec? Spec, ImmutableArray<string> Arguments)
{
    /// <summary>Whether the command line starts no VM: QEMU is to be run as it stands.</summary>
    public bool IsPassthrough => Spec is null;
}

/// <summary>Source-generated serialisation of <see cref="VmSpec"/>.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(VmSpec))]
public sealed partial class VmSpecJson : JsonSerializerContext;
