using System.Text.Json;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Tests.Checks;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Engines;

/// <summary>What stands in the way of an exec. Of most of it QEMU itself says nothing in this mode.</summary>
public sealed class ExecEngineTests
{
    private static readonly QemuBinary New = Qemu(new QemuVersion(11, 1, 3), "normal", "cpr-reboot", "cpr-transfer", "cpr-exec");

    [Fact]
    public void A_VM_of_which_nothing_is_private_to_the_program_fits()
    {
        var assessment = Assess(Vm());

        Assert.True(assessment.Eligible, string.Join("; ", assessment.Reasons));
    }

    [Fact]
    public void There_is_no_return_after_the_exec()
    {
        var point = ((IEngine)new ExecEngine()).PointOfNoReturn(Vm());

        Assert.Equal(UpdatePhase.Transfer, point.Phase);
        Assert.StartsWith("the exec", point.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void Auto_may_not_choose_it() => Assert.False(new ExecEngine().IsAutomatic);

    [Fact]
    public void Memory_that_ends_with_the_program_is_named()
    {
        Expect("'pc.ram' is not shared", Vm() with { MemoryBackends = [new MemoryBackend("pc.ram", "memory-backend-ram", 1, Shared: false, null)] });
        Expect("aux-ram-share", Vm() with { AuxRamShared = false });
        Expect("guest_memfd", With(InPlaceFacts.None with { HasGuestMemfd = true }));
    }

    [Fact]
    public void Descriptors_that_would_be_closed_are_named()
    {
        Expect("190, 200", With(InPlaceFacts.None with { ClosedByExec = [190, 200] }));
        Expect("tap0", With(InPlaceFacts.None with { Taps = ["tap0"] }));
    }

    [Fact]
    public void A_device_that_the_new_program_would_reset_is_named()
    {
        var card = new PassedThroughDevice("card", "vfio-pci", HasId: true, "0000:00:03.0", ByIommufd: true, []);
        Expect("passed-through device card has no function-level reset", Vm() with { PassedThrough = [card] });
        Assert.True(Assess(Vm() with { PassedThrough = [card with { HasFunctionLevelReset = true }] }).Eligible);
    }

    [Fact]
    public void A_sandbox_that_forbids_it_is_named() => Expect("spawn=deny", With(InPlaceFacts.None with { MayNotExec = true }));

    [Fact]
    public void A_VM_that_was_adopted_is_refused() => Expect("adopted", With(InPlaceFacts.None with { IsAdopted = true }));

    [Fact]
    public void Both_binaries_must_know_the_mode()
    {
        var old = Qemu(new QemuVersion(10, 0, 13), "normal", "cpr-reboot", "cpr-transfer");

        Expect("QEMU 10.0.13 has no migration mode cpr-exec", Vm() with { Facts = old });
        Assert.Contains(new ExecEngine().Assess(Vm(), old).Reasons, r => r.Contains("cannot be read by the older 10.0.13", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(true, "-sandbox", "on,spawn=deny")]
    [InlineData(true, "-M", "q35", "--sandbox", "enable=on,obsolete=deny,spawn=deny", "-m", "64")]
    [InlineData(false, "-sandbox", "on")]
    [InlineData(false, "-sandbox", "on,spawn=allow")]
    [InlineData(false, "-sandbox", "off,spawn=deny")]
    [InlineData(false, "-name", "spawn=deny")]
    public void What_a_sandbox_forbids_is_read_from_the_command_line(bool denied, params string[] arguments) =>
        Assert.Equal(denied, InPlaceFacts.DeniesSpawn(["qemu", .. arguments]));

    private static void Expect(string reason, VmInspection vm)
    {
        var assessment = Assess(vm);
        Assert.False(assessment.Eligible);
        Assert.Contains(assessment.Reasons, r => r.Contains(reason, StringComparison.Ordinal));
    }

    private static Reporting.EngineAssessment Assess(VmInspection vm) => new ExecEngine().Assess(vm, New);

    private static VmInspection Vm() => TopologyComparerTests.Vm() with { Facts = New };

    private static VmInspection With(InPlaceFacts facts) => Vm() with { InPlace = facts };

    private static QemuBinary Qemu(QemuVersion version, params string[] modes)
    {
        using var schema = JsonDocument.Parse($$"""
            [
              {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "0", "ret-type": "2"},
              {"name": "0", "meta-type": "object", "members": [{"name": "mode", "type": "1", "default": null}]},
              {"name": "1", "meta-type": "enum", "values": {{JsonSerializer.Serialize(modes)}}},
              {"name": "2", "meta-type": "object", "members": []}
            ]
            """);
        var machine = new MachineType("pc-q35-10.0", null, IsDefault: false, Deprecated: false, 255, null, null);
        return new QemuBinary("/usr/bin/qemu", version, "", [machine], QmpSchema.Parse(schema.RootElement.Clone()), []);
    }
}
