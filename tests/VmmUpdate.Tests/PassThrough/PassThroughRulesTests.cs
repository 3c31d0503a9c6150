using CprSharp.Iommufd;
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

    [Fact]
    public void Without_such_a_device_nothing_is_said() =>
        Assert.Empty(PassThroughRules.Check(TopologyComparerTests.Vm(), TopologyComparerTests.Vm().Facts, IommufdSupport.NoDevice));
}
