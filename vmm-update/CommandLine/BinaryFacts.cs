using System.Collections.Frozen;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>What one QEMU binary says about itself and about one machine type; probed by the caller, without a guest.</summary>
public sealed record BinaryFacts
{
    /// <summary>QEMU's version (<c>query-version</c>): major, minor, micro.</summary>
    public required Version Version { get; init; }

    /// <summary>Alias of a machine type to its canonical name, such as <c>q35</c> to <c>pc-q35-10.0</c> (<c>query-machines</c>).</summary>
    public IReadOnlyDictionary<string, string> MachineAliases { get; init; } = FrozenDictionary<string, string>.Empty;

    /// <summary>The machine type without <c>-machine</c>, alias or canonical; <see langword="null"/> for a target without a default.</summary>
    public string? DefaultMachine { get; init; }

    /// <summary>Properties of the machine type in question (<c>qom-list-properties</c> of <c>TYPE-machine</c>).</summary>
    /// <remarks>What the translation looks for is already in the abstract type <c>machine</c>; asked about <c>microvm-machine</c>,
    /// QEMU 7.2 aborts.</remarks>
    public IReadOnlySet<string> MachineProperties { get; init; } = FrozenSet<string>.Empty;

    /// <summary>Id of the machine's default RAM (<c>default-ram-id</c>), <see langword="null"/> when the machine has no such RAM.</summary>
    public string? DefaultRamId { get; init; }

    /// <summary>RAM in bytes without <c>-m</c>: 128 MiB for nearly every machine type.</summary>
    public long DefaultRamSize { get; init; } = 128L << 20;

    /// <summary>Kinds of display (<c>-display help</c>); <see langword="null"/> when not probed.</summary>
    public IReadOnlySet<string>? Displays { get; init; }

    internal string Canonical(string machine) => MachineAliases.TryGetValue(machine, out string? canonical) ? canonical : machine;

    internal bool IsAtLeast(int major, int minor) => Version >= new Version(major, minor);
}

/// <summary>What a path on the host is, as far as a command line's meaning depends on it.</summary>
public enum HostPathKind
{
    /// <summary>Not looked at, or not readable.</summary>
    Unknown,

    /// <summary>Nothing there.</summary>
    Missing,

    /// <summary>A directory, but not on hugetlbfs.</summary>
    Directory,

    /// <summary>A regular file.</summary>
    File,

    /// <summary>A device, a socket or anything else.</summary>
    Other,
}

/// <summary>What a path on the host is.</summary>
/// <param name="Kind">What kind.</param>
/// <param name="HugePageSize">Size of a page in bytes when the path is on hugetlbfs, else <see langword="null"/>.</param>
public readonly record struct HostPath(HostPathKind Kind, long? HugePageSize = null);

/// <summary>What the translation may assume about the host and the supervisor.</summary>
public sealed record LaunchSettings
{
    /// <summary>Lowest number for the descriptors that the supervisor holds; from 3 up.</summary>
    public int FirstDescriptor { get; init; } = 200;

    /// <summary>Huge page size in bytes for <c>hugetlb=on</c> without <c>hugetlbsize</c> (Hugepagesize of /proc/meminfo).</summary>
    public long DefaultHugePageSize { get; init; } = 2L << 20;

    /// <summary>Looks at a path that a memory backend names; every path is <see cref="HostPathKind.Unknown"/> when not given.</summary>
    public Func<string, HostPath> DescribePath { get; init; } = static _ => default;

    /// <summary>The PCI address of the passed-through device that a descriptor of the caller's is of; <see langword="null"/> when it is none.</summary>
    public Func<int, string?> DescribeDevice { get; init; } = static _ => null;

    /// <summary>Whether a VMM runs with this command line already: its memory and machine are then what they are, and only what a second
    /// VMM beside it needs is translated.</summary>
    public bool Running { get; init; }

    /// <summary>Whether the supervisor also serves the consoles whose listening sockets its caller passed (<c>fd=</c>). Who takes a VM over
    /// after its supervisor has not got them: only for a VM that ends with its supervisor.</summary>
    public bool ServesPassedSockets { get; init; }

    /// <summary>Whether the supervisor opens passed-through devices and the IOMMU (<c>/dev/vfio</c>, <c>/dev/iommu</c>) in QEMU's place.</summary>
    public bool HoldsDevices { get; init; }

    /// <summary>Settings without knowledge of the host.</summary>
    public static LaunchSettings Default { get; } = new();
}
