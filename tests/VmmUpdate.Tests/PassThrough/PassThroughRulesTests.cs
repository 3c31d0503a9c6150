using CprSharp.Iommufd;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Tests.Checks;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.PassThrough;

public sealed class PassThroughRulesTests
{
    private static readonly PassedThroughDevice Disk = new("nvme", "vfio-pci", HasId: true, "0000:00:03.0", ByIommufd: true, []);

    [Theory]
    [InlineData("kvm", 11, true, true, IommufdSupport.ChangeProcess, true)]
    [InlineData("tcg", 11, true, true, IommufdSupport.ChangeProcess, false)]
    [InlineData("kvm", 9, true, true, IommufdSupport.ChangeProcess, false)]
    [InlineData("kvm", 11, false, true, IommufdSupport.ChangeProcess, false)]
    [InlineData("kvm", 11, true, false, IommufdSupport.ChangeProcess, false)]
    [InlineData("kvm", 11, true, true, IommufdSupport.NoChangeProcess, false)]
    [InlineData("kvm", 11, true, true, IommufdSupport.NoDevice, false)]
    public void A_passed_through_device_needs_all_of_it(string accelerator, int major, bool byIommufd, bool hasId, IommufdSupport kernel, bool fits)
    {
        var vm = TopologyComparerTests.Vm() with
        {
            Accelerator = accelerator,
            PassedThrough = [Disk with { ByIommufd = byIommufd, HasId = hasId }],
        };
        vm = vm with { Facts = vm.Facts with { Version = new QemuVersion(major, 1, 0) } };
        var refused = PassThroughRules.Check(vm, vm.Facts, kernel).Where(f => f.Severity == Severity.Fail).ToList();
        Assert.Equal(fits, refused.Count == 0);
        Assert.All(refused, f => Assert.NotEmpty(f.Fix));
    }

    /// <summary>A domain of libvirt 11.3: its devices are in a container, and its /dev has no iommufd, whatever the kernel has.</summary>
    [Fact]
    public void Where_no_device_is_attached_by_iommufd_nothing_is_said_of_the_kernels()
    {
        var vm = TopologyComparerTests.Vm() with { Accelerator = "kvm", PassedThrough = [Disk with { ByIommufd = false }] };
        vm = vm with { Facts = vm.Facts with { Version = new QemuVersion(11, 1, 0) } };
        var refused = Assert.Single(PassThroughRules.Check(vm, vm.Facts, IommufdSupport.NoDevice));
        Assert.Contains("legacy VFIO container", refused.Evidence, StringComparison.Ordinal);
    }

    [Fact]
    public void A_mediated_device_is_called_so()
    {
        var vm = TopologyComparerTests.Vm() with { Accelerator = "kvm", PassedThrough = [Disk with { Host = "", IsMediated = true }] };
        vm = vm with { Facts = vm.Facts with { Version = new QemuVersion(11, 1, 0) } };
        var refused = Assert.Single(PassThroughRules.Check(vm, vm.Facts, IommufdSupport.ChangeProcess), f => f.Severity == Severity.Fail);
        Assert.Contains("mdev", refused.Evidence, StringComparison.Ordinal);
        Assert.Contains("device_del", refused.Fix, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("kvm", true, UpdatePhase.Transfer, "nvme")]
    [InlineData("kvm", false, UpdatePhase.Commit, "until then the old one can resume")]
    [InlineData("tcg", true, UpdatePhase.Commit, "until then the old one can resume")]
    public void The_point_of_no_return_depends_on_device_and_accelerator(string accelerator, bool device, UpdatePhase phase, string why)
    {
        var vm = TopologyComparerTests.Vm() with { Accelerator = accelerator, PassedThrough = device ? [Disk] : [] };
        IUpdateEngine engine = new TransferEngine();

        var point = engine.PointOfNoReturn(vm);

        Assert.Equal(phase, point.Phase);
        Assert.Contains(why, point.Why, StringComparison.Ordinal);
        Assert.Equal(phase == UpdatePhase.Transfer, engine.CompletionIsFinal(vm));
    }

    [Theory]
    [InlineData(1024, false, true)]
    [InlineData(1023, false, false)]
    [InlineData(0, true, true)]
    public void Guest_RAM_must_fit_twice_under_the_limit_of_locked_memory(ulong limitMiB, bool exempt, bool fits)
    {
        var vm = TopologyComparerTests.Vm() with { PassedThrough = [Disk], MemoryBackends = [new MemoryBackend("ram", "memory-backend-memfd", 512L << 20, Shared: true, null)] };

        var finding = Assert.Single(PassThroughRules.CheckLockedMemory(vm, limitMiB << 20, exempt));

        Assert.Equal(fits ? Severity.Pass : Severity.Fail, finding.Severity);
        Assert.Equal(fits, finding.Fix.Length == 0);
    }

    [Fact]
    public void Part_of_a_BAR_is_where_the_guest_has_the_BAR_now()
    {
        var device = Disk with { Bars = [new PlacedBar(0, 0xfe00_0000, 0x4000), new PlacedBar(2, 1UL << 40, 1UL << 30)] };

        Assert.Equal(IovaRange.Of((1UL << 40) + 0x1000, 0x2000), device.Place(2, 0x1000, 0x2000));
        Assert.Null(device.Place(4, 0, 0x1000));
    }

    [Fact]
    public void Without_such_a_device_nothing_is_said() =>
        Assert.Empty(PassThroughRules.Check(TopologyComparerTests.Vm(), TopologyComparerTests.Vm().Facts, IommufdSupport.NoDevice));
}
