using System.Net.Sockets;
using System.Text;
using CprSharp.Interop;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class UnixDatagramTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"cprsd-{Guid.NewGuid():N}"[..16]);
    private readonly Socket _reader = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);

    public UnixDatagramTests() => _reader.Bind(new UnixDomainSocketEndPoint(_path));

    [Fact]
    public void A_descriptor_comes_alone()
    {
        using var sender = new UnixDatagram(_path);
        using var memory = Memfd.Create("entry", 5);
        RandomAccess.Write(memory, "hello"u8, 0);

        sender.Send(memory);

        var received = new List<SafeFileHandle>();
        Assert.Equal(0, ScmRights.Receive(_reader.SafeHandle, new byte[16], received, out var truncated));
        Assert.False(truncated);
        using var arrived = Assert.Single(received);
        var content = new byte[5];
        Assert.Equal(5, RandomAccess.Read(arrived, content, 0));
        Assert.Equal("hello", Encoding.UTF8.GetString(content));
    }

    [Fact]
    public void A_descriptor_comes_with_a_message()
    {
        using var sender = new UnixDatagram(_path);
        using var memory = Memfd.Create("kept", 5);

        Assert.True(sender.Send("FDSTORE=1"u8, memory));

        var received = new List<SafeFileHandle>();
        var message = new byte[16];
        Assert.Equal(9, ScmRights.Receive(_reader.SafeHandle, message, received, out var truncated));
        Assert.False(truncated);
        Assert.Equal("FDSTORE=1", Encoding.UTF8.GetString(message, 0, 9));
        using var arrived = Assert.Single(received);
        Assert.Equal(DescriptorInfo.Of(memory).Inode, DescriptorInfo.Of(arrived).Inode);
    }

    [Fact]
    public void What_is_too_long_for_a_datagram_is_not_sent()
    {
        using var sender = new UnixDatagram(_path);

        Assert.True(sender.Send("short"u8));
        Assert.False(sender.Send(new byte[1 << 22]));

        Assert.Equal(5, _reader.Receive(new byte[16]));
        Assert.Equal(0, _reader.Available);
    }

    [Fact]
    public void A_reader_that_does_not_read_is_not_waited_for()
    {
        using var sender = new UnixDatagram(_path);

        for (var i = 0; i < 2000; i++)
            Assert.True(sender.Send(BitConverter.GetBytes(i)));

        var first = new byte[4];
        Assert.Equal(4, _reader.Receive(first));
        Assert.Equal(0, BitConverter.ToInt32(first));
    }

    [Fact]
    public void Nobody_there_is_an_error() => Assert.Throws<SocketException>(() => new UnixDatagram(_path + ".not"));

    public void Dispose()
    {
        _reader.Dispose();
        File.Delete(_path);
    }
}
