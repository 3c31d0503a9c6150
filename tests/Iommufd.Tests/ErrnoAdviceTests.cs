using System.Reflection;
using CprSharp.Iommufd.Interop;
using CprSharp.Memfd;
using Xunit;

namespace CprSharp.Iommufd.Tests;

public sealed class ErrnoAdviceTests
{
    /// <summary>The errors that the kernel gives a meaning of its own for an ioctl.</summary>
    public static TheoryData<string, int, string> Particular => new()
    {
        { "IOMMU_DESTROY", Errno.EBUSY, "uses the object" },
        { "IOMMU_IOAS_ALLOW_IOVAS", Errno.EINVAL, "overlap" },
        { "IOMMU_IOAS_ALLOW_IOVAS", 98, "reserves" },
        { "IOMMU_IOAS_IOVA_RANGES", 90, "more ranges" },
        { "IOMMU_IOAS_COPY", Errno.ENOENT, "hole" },
        { "IOMMU_IOAS_COPY", Errno.EPERM, "reading only" },
        { "IOMMU_IOAS_MAP", Errno.EEXIST, "mapped already" },
        { "IOMMU_IOAS_MAP", Errno.EFAULT, "not mapped in this process" },
        { "IOMMU_IOAS_MAP_FILE", Errno.EEXIST, "mapped already" },
        { "IOMMU_IOAS_MAP_FILE", Errno.EINVAL, "shared memory" },
        { "IOMMU_IOAS_MAP_FILE", Errno.EBADF, "closed" },
        { "IOMMU_IOAS_MAP_FILE", Errno.ENODEV, "revoked" },
        { "IOMMU_IOAS_MAP_FILE", Errno.ENOMEM, "RLIMIT_MEMLOCK" },
        { "IOMMU_IOAS_MAP_FILE", 28, "no free range" },
        { "IOMMU_IOAS_MAP_FILE", 75, "beyond the last address" },
        { "IOMMU_IOAS_UNMAP", Errno.ENOENT, "not split" },
        { "IOMMU_IOAS_UNMAP", Errno.EBUSY, "hardware queue" },
        { "IOMMU_IOAS_CHANGE_PROCESS", Errno.EINVAL, "dma-buf" },
        { "IOMMU_IOAS_CHANGE_PROCESS", Errno.ENOMEM, "charged before" },
        { "IOMMU_IOAS_CHANGE_PROCESS", Errno.EBUSY, "being mapped" },
        { "IOMMU_IOAS_CHANGE_PROCESS", Errno.ENOTTY, "6.13" },
        { "IOMMU_OPTION", Errno.EPERM, "CAP_SYS_RESOURCE" },
        { "IOMMU_OPTION", Errno.EBUSY, "empty context" },
        { "IOMMU_HWPT_ALLOC", Errno.EOPNOTSUPP, "dirty tracking" },
        { "IOMMU_HWPT_GET_DIRTY_BITMAP", Errno.EOPNOTSUPP, "dirty tracking" },
        { "IOMMU_IOAS_NOIOMMU_GET_PA", Errno.EPERM, "CAP_SYS_RAWIO" },
        { "VFIO_DEVICE_BIND_IOMMUFD", Errno.EINVAL, "open elsewhere" },
        { "VFIO_DEVICE_BIND_IOMMUFD", Errno.EPERM, "interrupt" },
        { "VFIO_DEVICE_ATTACH_IOMMUFD_PT", Errno.EBUSY, "being reset" },
        { "IOMMU_VFIO_IOAS", Errno.ENODEV, "no compatibility IOAS" },
    };

    [Theory]
    [MemberData(nameof(Particular))]
    public void An_error_is_explained_for_its_ioctl(string ioctl, int errno, string words)
    {
        var e = new IommufdException(ioctl, "Ioas 3", IovaRange.Of(0x1000, 0x1000), errno);

        Assert.Contains(words, e.Cause, StringComparison.OrdinalIgnoreCase);
        Assert.NotEmpty(e.Remedy);
        Assert.StartsWith($"{ioctl}(Ioas 3, IOVA 0x1000-0x1fff): {Errno.Name(errno)} (", e.Message, StringComparison.Ordinal);
        Assert.EndsWith($"{e.Cause}; {e.Remedy}", e.Message, StringComparison.Ordinal);
        Assert.Equal((errno, ioctl), (e.Error.Errno, e.Error.Syscall));
    }

    /// <summary>The errors that mean the same for every ioctl (the header's "General ioctl format").</summary>
    [Theory]
    [InlineData(Errno.ENOTTY)]
    [InlineData(7)]
    [InlineData(Errno.EOPNOTSUPP)]
    [InlineData(Errno.EINVAL)]
    [InlineData(Errno.ENOENT)]
    [InlineData(Errno.ENOMEM)]
    [InlineData(75)]
    public void The_general_errors_have_an_explanation_for_every_ioctl(int errno)
    {
        var ioctls = typeof(LibC).GetFields(BindingFlags.Public | BindingFlags.Static)
            .Where(field => field.IsLiteral && field.GetRawConstantValue() is uint and >= 0x3b64 and <= 0x3b95)
            .Select(field => field.Name)
            .ToList();

        Assert.True(ioctls.Count >= 33);
        Assert.All(ioctls, ioctl => Assert.DoesNotContain("does not document", ErrnoAdvice.For(ioctl, errno).Cause, StringComparison.Ordinal));
        Assert.Contains("does not document", ErrnoAdvice.For("IOMMU_DESTROY", 61).Cause, StringComparison.Ordinal);
    }
}
