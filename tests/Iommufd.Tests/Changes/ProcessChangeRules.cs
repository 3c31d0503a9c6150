using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Model;
using CprSharp.Iommufd.Tests.Model;
using CprSharp.Memfd;
using Xunit;

namespace CprSharp.Iommufd.Tests.Changes;

public sealed class ProcessChangeRules
{
    private const ulong Guest = 1UL << 30;
    private static readonly AddressSpaces Files = With(new FileBacking(new FileIdentity(new DeviceNumber(0, 1), 5), 0));

    private static readonly ProcessChangeFacts Facts = new(
        LockLimit: 2 * Guest, ChargedBytes: Guest, OtherLockedBytes: 0, SameUser: true, SameProcess: false, OldOwnerAlive: true, AccountPerProcess: false);

    public static TheoryData<Backing> InTheWay => [new VirtualBacking(7, 0), new DmaBufBacking(new FileIdentity(default, 9), 0), new UnknownBacking()];

    [Theory]
    [MemberData(nameof(InTheWay))]
    public void Whatever_is_no_memory_file_is_in_the_way_even_for_the_owner_itself(Backing backing)
    {
        var result = Assert.IsType<ProcessChangeResult.AreasInTheWay>(ProcessChange.Check(With(backing), Facts with { SameProcess = true }));

        Assert.Equal(backing, Assert.Single(result.Areas).Area.Backing);
        Assert.Contains(backing.ToString()!, result.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, false, 2 * Guest)]
    [InlineData(false, false, Guest)]
    [InlineData(true, true, Guest)]
    public void A_user_is_charged_twice_for_a_moment_and_a_process_once(bool sameUser, bool perProcess, ulong needed)
    {
        var facts = Facts with { SameUser = sameUser, AccountPerProcess = perProcess };

        Assert.Null(ProcessChange.Check(Files, facts with { LockLimit = needed }));
        Assert.Equal(new ProcessChangeResult.OverLimit(needed, needed - 1), ProcessChange.Check(Files, facts with { LockLimit = needed - 1 }));
        Assert.Equal(new ProcessChangeResult.OverLimit(needed + 5, needed), ProcessChange.Check(Files, facts with { LockLimit = needed, OtherLockedBytes = 5 }));
    }

    [Fact]
    public void No_limit_and_no_charge_and_the_owner_itself_need_nothing()
    {
        var nothing = Facts with { LockLimit = 0 };

        Assert.Null(ProcessChange.Check(Files, nothing with { LockLimit = ResourceLimit.Unlimited }));
        Assert.Null(ProcessChange.Check(Files, nothing with { ChargedBytes = 0 }));
        Assert.Null(ProcessChange.Check(Files, nothing with { SameProcess = true }));
    }

    [Fact]
    public void Accounting_per_process_does_not_survive_its_process()
    {
        var gone = Facts with { OldOwnerAlive = false };

        Assert.IsType<ProcessChangeResult.OwnerGone>(ProcessChange.Check(Files, gone with { AccountPerProcess = true }));
        Assert.Null(ProcessChange.Check(Files, gone));
        Assert.Null(ProcessChange.Check(Files, gone with { AccountPerProcess = true, ChargedBytes = 0 }));
    }

    [Fact]
    public void What_a_picture_pins_counts_a_shared_pin_once()
    {
        var file = new FileBacking(new FileIdentity(new DeviceNumber(0, 1), 5), 0x10000);
        var (first, second) = (new IoasId(1), new IoasId(2));

        var picture = Generators.Picture(
        [
            (new AllocateIoasOperation(), 1), (new AllocateIoasOperation(), 2),
            (new MapOperation(first, 0, 0x8000, MapAccess.ReadWrite, file), 0),
            (new MapOperation(first, 0x8000, 0x1000, MapAccess.ReadWrite, file), 0x8000),
            (new CopyOperation(first, 0, second, 0, 0x4000, MapAccess.Read), 0),
            (new CopyOperation(first, 0x6000, second, 0x9000, 0x2000, MapAccess.Read), 0x9000),
        ]);

        Assert.Equal(0x9000UL, ProcessChange.PinnedBytes(picture));
        Assert.Equal(0UL, ProcessChange.PinnedBytes(AddressSpaces.Empty));
    }

    private static AddressSpaces With(Backing backing) => Generators.Picture(
    [
        (new AllocateIoasOperation(), 1), (new AllocateIoasOperation(), 2),
        (new MapOperation(new IoasId(2), 0, 4096, MapAccess.ReadWrite, backing), 0),
    ]);
}
