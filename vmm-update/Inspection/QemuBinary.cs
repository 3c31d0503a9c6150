using System.Collections.Immutable;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>A machine type as a binary offers it (<c>query-machines</c>).</summary>
internal sealed record MachineType(string Name, string? Alias, bool IsDefault, bool Deprecated, int CpuMax, string? DefaultRamId, string? DefaultCpuType);

/// <summary>What a QEMU binary can do, asked from the binary itself.</summary>
/// <param name="Path">The executable.</param>
/// <param name="Version">Its version.</param>
/// <param name="Package">The distributor's name for it.</param>
/// <param name="Machines">Its machine types.</param>
/// <param name="Schema">Its QMP schema.</param>
/// <param name="MachineProperties">QOM properties of the machine type it was asked about, e.g. <c>aux-ram-share</c>.</param>
internal sealed record QemuBinary(
    string Path,
    QemuVersion Version,
    string Package,
    ImmutableArray<MachineType> Machines,
    QmpSchema Schema,
    ImmutableHashSet<string> MachineProperties)
{
    /// <summary>The file to execute where it is not whatever <see cref="Path"/> leads to at that moment.</summary>
    public string? Executable { get; init; }

    /// <summary>What the command-line translation needs to know.</summary>
    public BinaryFacts ToFacts(string? machine = null) => new()
    {
        Version = new Version(Version.Major, Version.Minor, Version.Micro),
        MachineAliases = Machines.Where(m => m.Alias is not null).ToDictionary(m => m.Alias!, m => m.Name, StringComparer.Ordinal),
        DefaultMachine = DefaultMachine?.Name,
        MachineProperties = MachineProperties,
        DefaultRamId = Machines.FirstOrDefault(m => m.Name == machine)?.DefaultRamId,
    };

    public bool HasMachine(string name) => Machines.Any(m => m.Name == name);

    public bool HasMigrationMode(string mode) => Schema.HasEnumValue("migrate-set-parameters", "mode", mode);

    /// <summary>Whether <c>migrate</c> and <c>migrate-incoming</c> take channels (QEMU ≥ 8.2).</summary>
    public bool HasChannels => Schema.HasArgument("migrate", "channels");

    public MachineType? DefaultMachine => Machines.FirstOrDefault(m => m.IsDefault);

    /// <summary>The machine type behind a name or alias; null when the binary has none of that name.</summary>
    public MachineType? Resolve(string nameOrAlias) =>
        Machines.FirstOrDefault(m => m.Name == nameOrAlias) ?? Machines.FirstOrDefault(m => m.Alias == nameOrAlias);
}
