using CprSharp.Memfd;
using CprSharp.VmmUpdate.PassThrough;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.PassThrough;

public sealed class ResetGuardTests
{
    private const ulong Config = 7UL << 40;

    [Theory]
    [InlineData(18, 20, Config + 0x04, 2, 2)]            // pwrite64 of the command register
    [InlineData(18, 20, Config + 0x10, 4, 4)]            // of a BAR
    [InlineData(18, 20, Config + 0x24, 4, 4)]
    [InlineData(16, 0x3b6f, 0, 0, 0)]                    // VFIO_DEVICE_RESET
    [InlineData(16, 0x3b71, 0, 0, 0)]                    // VFIO_DEVICE_PCI_HOT_RESET
    public void Resets_are_answered_as_if_they_were_done(long number, ulong second, ulong fourth, ulong third, long answer) =>
        Assert.Equal(answer, ResetGuard.Answer(new SystemCall(number, 20, second, third, fourth)));

    [Theory]
    [InlineData(18, 20, Config + 0x30, 4)]               // the ROM's size is found by writing
    [InlineData(18, 20, Config + 0x06, 2)]
    [InlineData(18, 20, (6UL << 40) + 0x04, 2)]          // another region
    [InlineData(18, 20, 0x04, 2)]                        // a file
    [InlineData(17, 20, Config + 0x04, 2)]               // pread64
    [InlineData(16, 0x3b70, 0, 0)]                       // VFIO_DEVICE_GET_PCI_HOT_RESET_INFO
    [InlineData(16, 0x3b92, 0, 0)]                       // IOMMU_IOAS_CHANGE_PROCESS
    public void Everything_else_is_made(long number, ulong second, ulong fourth, ulong third) =>
        Assert.Null(ResetGuard.Answer(new SystemCall(number, 20, second, third, fourth)));
}
