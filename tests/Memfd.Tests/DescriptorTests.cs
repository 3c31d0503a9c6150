using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class DescriptorTests
{
    [Fact]
    public void Duplicates_are_of_the_same_file_and_two_openings_are_not()
    {
        using var one = File.OpenHandle("/dev/null");
        using var duplicate = Descriptor.Duplicate(one);
        using var other = File.OpenHandle("/dev/null");

        Assert.True(Descriptor.IsSameFile(one, one));
        Assert.True(Descriptor.IsSameFile(one, duplicate));
        Assert.False(Descriptor.IsSameFile(one, other));
    }

    [Fact]
    public void A_closed_descriptor_is_refused()
    {
        using var one = File.OpenHandle("/dev/null");
        using var closed = new SafeFileHandle(1 << 20, ownsHandle: false);

        Assert.Equal(Errno.EBADF, Assert.Throws<SyscallException>(() => Descriptor.IsSameFile(one, closed)).Errno);
    }
}
