using System.Text.Json;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Checks;

public sealed class TopologyComparerTests
{
    [Fact]
    public void The_same_machine_has_no_differences() => Assert.Empty(TopologyComparer.Compare(Vm(), Vm()));

    [Fact]
    public void A_device_that_only_one_side_has_is_named()
    {
        var plugged = Vm() with { Devices = [.. Vm().Devices, new QomDevice("/machine/peripheral/nic7", "e1000e") { Plug = "addr=8" }] };

        Assert.Contains("device 'nic7' (e1000e addr=8) is missing in the new VMM", TopologyComparer.Compare(plugged, Vm()));
        Assert.Contains("device 'nic7' (e1000e addr=8) is only in the new VMM", TopologyComparer.Compare(Vm(), plugged));
    }

    [Fact]
    public void A_device_elsewhere_is_another_device()
    {
        var moved = Vm() with { Devices = [new QomDevice("/machine/peripheral/nic0", "e1000e") { Plug = "addr=16" }] };

        Assert.Contains(TopologyComparer.Compare(Vm(), moved), d => d.Contains("'nic0'", StringComparison.Ordinal));
    }

    [Fact]
    public void Another_medium_is_a_difference()
    {
        var changed = Vm() with { Blocks = [new BlockDevice("cd0", "/other.iso", null, Removable: true, ReadOnly: true)] };

        Assert.Contains(TopologyComparer.Compare(changed, Vm()), d => d.Contains("/other.iso", StringComparison.Ordinal));
    }

    [Fact]
    public void A_default_drive_that_no_device_uses_does_not_matter()
    {
        var old = Vm() with { Blocks = [.. Vm().Blocks, new BlockDevice("sd0", null, null, Removable: true, ReadOnly: false) { Attached = false }] };

        Assert.Empty(TopologyComparer.Compare(old, Vm()));
    }

    [Fact]
    public void Memory_cpus_and_machine_type_are_compared()
    {
        var other = Vm() with { MachineType = "pc-q35-11.1", CpuTypes = ["qemu64-x86_64-cpu"], MemoryBackends = [] };

        var differences = TopologyComparer.Compare(Vm(), other).ToList();

        Assert.Contains(differences, d => d.Contains("machine type", StringComparison.Ordinal));
        Assert.Contains(differences, d => d.Contains("2 vCPUs became 1", StringComparison.Ordinal));
        Assert.Contains(differences, d => d.Contains("'pc.ram'", StringComparison.Ordinal));
    }

    [Fact]
    public void A_difference_is_a_refusal_and_not_a_failure() =>
        Assert.True(Assert.Throws<UpdateException>(() => TopologyComparer.Require(Vm(), Vm() with { MemoryBackends = [] })).IsRefusal);

    internal static VmInspection Vm()
    {
        using var schema = JsonDocument.Parse("[]");
        return new VmInspection
        {
            Facts = new QemuBinary("/usr/bin/qemu", new QemuVersion(10, 0, 13), "", [], QmpSchema.Parse(schema.RootElement.Clone()), []),
            MachineType = "pc-q35-10.0",
            RunState = "running",
            AuxRamShared = true,
            Accelerator = "tcg",
            MemoryBackends = [new MemoryBackend("pc.ram", "memory-backend-file", 1L << 29, Shared: true, "/proc/self/fd/200")],
            AnonymousRam = 0,
            CpuTypes = ["qemu64-x86_64-cpu", "qemu64-x86_64-cpu"],
            CpuFeatures = [],
            CpuThreads = [1, 2],
            PciDevices = [new PciDevice("00.0", 0x8086, 0x29c0, 0x600, ""), new PciDevice("01.0", 0x8086, 0x10d3, 0x200, "nic0")],
            Devices = [new QomDevice("/machine/peripheral/nic0", "e1000e") { Plug = "addr=8" }],
            PassedThrough = [],
            Virtqueues = [],
            Blocks = [new BlockDevice("cd0", "/first.iso", null, Removable: true, ReadOnly: true)],
            CharDevices = [],
            BlockedReasons = [],
            MigrationStatus = "",
        };
    }
}
