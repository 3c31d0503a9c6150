using System.Text;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class PseudoterminalTests
{
    [Fact]
    public void What_is_written_to_the_terminal_is_read_from_the_master_as_it_is()
    {
        using var terminal = Pseudoterminal.Open();
        using var other = new FileStream(terminal.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
        using var master = new FileStream(terminal.Master, FileAccess.Read, 0);

        other.Write("a\nb"u8);

        var read = new byte[8];
        Assert.Equal(3, master.Read(read));
        Assert.Equal("a\nb", Encoding.UTF8.GetString(read, 0, 3));
    }

    [Fact]
    public void A_duplicate_of_the_master_knows_the_terminal_and_keeps_it_when_the_first_is_closed()
    {
        var first = Pseudoterminal.Open();
        using var other = new FileStream(first.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
        using var second = Pseudoterminal.FromMaster(Descriptor.Duplicate(first.Master));
        using var master = new FileStream(second.Master, FileAccess.Read, 0);
        first.Dispose();

        Assert.Equal(first.Path, second.Path);
        other.Write("still there"u8);
        Assert.Equal(11, master.Read(new byte[16]));
    }

    [Fact]
    public void What_is_no_master_is_refused()
    {
        using var memory = Memfd.Create("not a terminal", 1);

        var refused = Assert.Throws<SyscallException>(() => Pseudoterminal.FromMaster(memory));

        Assert.Equal(Errno.ENOTTY, refused.Errno);
    }
}
