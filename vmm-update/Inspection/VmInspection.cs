using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>A memory backend (<c>query-memdev</c>, <c>/objects</c>).</summary>
internal sealed record MemoryBackend(string Id, string Type, long Size, bool Shared, string? Path)
{
    /// <summary>Whether migration treats its block as a named file (<c>system/physmem.c</c>, <c>RAM_NAMED_FILE</c>): only this backend's type does.</summary>
    public bool IsNamedFile => Type == "memory-backend-file";
}

/// <summary>A PCI function as the guest sees it (<c>query-pci</c>).</summary>
/// <param name="Path">Slot and function from the root bus on, e.g. <c>1c.0/00.0</c>. Bus numbers are the firmware's work and not yet there in a VMM that waits for its state.</param>
/// <param name="Vendor">PCI vendor.</param>
/// <param name="Device">PCI device.</param>
/// <param name="Class">PCI class and subclass.</param>
/// <param name="Id">The device's id; empty when it has none.</param>
internal sealed record PciDevice(string Path, int Vendor, int Device, int Class, string Id)
{
    public bool IsBridge => Class >> 8 == 0x06;

    public bool OnRootBus => !Path.Contains('/', StringComparison.Ordinal);
}

/// <summary>A device in the QOM tree: where it is, what it is, and for one that was asked for by <c>-device</c> where it is plugged.</summary>
internal sealed record QomDevice(string Path, string Type)
{
    /// <summary>Bus and address; empty for what the machine brings along and for devices without an address.</summary>
    public string Plug { get; init; } = "";

    /// <summary>Its id when it was given one.</summary>
    public string? Id => Path.StartsWith("/machine/peripheral/", StringComparison.Ordinal) && Path.Count(c => c == '/') == 3 ? Path[20..] : null;

    public bool IsAnonymous => Path.StartsWith("/machine/peripheral-anon/", StringComparison.Ordinal) && Path.Count(c => c == '/') == 3;
}

/// <summary>A block device with what is in it (<c>query-block</c>).</summary>
internal sealed record BlockDevice(string Name, string? File, string? NodeName, bool Removable, bool ReadOnly)
{
    /// <summary>Whether a device of the machine uses it. QEMU before 8 makes drives by default (<c>sd0</c>) that no device uses.</summary>
    public bool Attached { get; init; } = true;
}

/// <summary>A job that the VMM runs beside the guest (<c>query-jobs</c>), e.g. a copy of a disk.</summary>
internal sealed record BackgroundJob(string Id, string Type, string Status);

/// <summary>A character device (<c>query-chardev</c>).</summary>
internal sealed record CharDevice(string Label, string FileName, bool FrontendOpen);

/// <summary>What was read from a VM. Reading it changes nothing.</summary>
internal sealed record VmInspection
{
    public required QemuBinary Facts { get; init; }

    public required string MachineType { get; init; }

    public required string RunState { get; init; }

    public bool IsRunning => RunState == "running";

    public required bool AuxRamShared { get; init; }

    /// <summary>What QEMU would pass on as memory of devices that are gone, though it is something else by now.</summary>
    public IReadOnlyList<string> LostDeviceMemory { get; init; } = [];

    /// <summary><c>kvm</c> or <c>tcg</c> or another accelerator.</summary>
    public required string Accelerator { get; init; }

    public required ImmutableArray<MemoryBackend> MemoryBackends { get; init; }

    /// <summary>Guest RAM that belongs to no memory backend, in bytes: it is private to the process.</summary>
    public required long AnonymousRam { get; init; }

    public required ImmutableArray<string> CpuTypes { get; init; }

    /// <summary>Names of the features that the first vCPU has; empty where the architecture does not tell.</summary>
    public required ImmutableHashSet<string> CpuFeatures { get; init; }

    /// <summary>Thread ids of the vCPUs, by index.</summary>
    public required ImmutableArray<int> CpuThreads { get; init; }

    public int CpuCount => CpuTypes.Length;

    public required ImmutableArray<PciDevice> PciDevices { get; init; }

    public required ImmutableArray<QomDevice> Devices { get; init; }

    /// <summary>Host devices that the guest drives itself.</summary>
    public required ImmutableArray<PassThrough.PassedThroughDevice> PassedThrough { get; init; }

    public required ImmutableArray<Virtqueue> Virtqueues { get; init; }

    public required ImmutableArray<BlockDevice> Blocks { get; init; }

    /// <summary>Jobs that have not ended.</summary>
    public ImmutableArray<BackgroundJob> Jobs { get; init; } = [];

    public required ImmutableArray<CharDevice> CharDevices { get; init; }

    /// <summary>Why QEMU itself refuses to migrate now, in the mode that is set.</summary>
    public required ImmutableArray<string> BlockedReasons { get; init; }

    /// <summary>The status of the last migration, e.g. <c>active</c>; empty when there was none.</summary>
    public required string MigrationStatus { get; init; }

    /// <summary>What speaks against replacing the program of the VMM's process.</summary>
    public InPlaceFacts InPlace { get; init; } = InPlaceFacts.None;
}
