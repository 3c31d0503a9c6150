using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class SyscallExceptionTests
{
    [Fact]
    public void Message_names_call_object_error_and_fix()
    {
        var e = new SyscallException("open", "/dev/x", Errno.ENOENT, "load the module");

        Assert.Equal("open(/dev/x): ENOENT (No such file or directory); load the module", e.Message);
        Assert.Equal(("open", 2, "ENOENT"), (e.Syscall, e.Errno, e.ErrnoName));
    }

    [Theory]
    [InlineData(Errno.EAGAIN, "EAGAIN")]
    [InlineData(Errno.EOPNOTSUPP, "EOPNOTSUPP")]
    [InlineData(4095, "errno 4095")]
    public void Every_number_has_a_name(int errno, string name) => Assert.Equal(name, Errno.Name(errno));
}
