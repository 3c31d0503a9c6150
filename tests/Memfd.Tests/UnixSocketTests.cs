using System.Net.Sockets;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class UnixSocketTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task Connections_reach_the_listener()
    {
        var path = Name("socket");
        using var listener = UnixSocket.Listen(path);

        using var client = UnixSocket.Connect(path);
        using var server = await listener.AcceptAsync(Ct);

        await client.SendAsync("x"u8.ToArray(), Ct);
        Assert.Equal(1, await server.ReceiveAsync(new byte[2], Ct));
        Assert.Equal([path], Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Unlinking_the_bound_name_leaves_the_public_one()
    {
        var path = Name("socket");
        using var listener = UnixSocket.Listen(path);
        var bound = listener.LocalEndPoint!.ToString()!;

        File.Delete(bound); // what QEMU does at exit with the name that getsockname(2) gives

        Assert.NotEqual(path, bound);
        UnixSocket.Connect(path).Dispose();
    }

    [Fact]
    public void Closing_the_listener_leaves_the_name_for_the_next_one()
    {
        var path = Name("socket");
        UnixSocket.Listen(path).Dispose();

        // A child that another test is just starting has the listener, too, until its exec.
        Assert.True(SpinWait.SpinUntil(() => IsRefused(path), TimeSpan.FromSeconds(10)), "the closed listener still accepts");
        using var next = UnixSocket.Listen(path);
        UnixSocket.Connect(path).Dispose();
    }

    [Fact]
    public async Task Replacing_a_listener_never_leaves_a_moment_without_one()
    {
        var path = Name("socket");
        var listener = UnixSocket.Listen(path, backlog: 4096);
        using var done = new CancellationTokenSource();
        var connects = Task.Run(
            () =>
            {
                var count = 0;
                for (; !done.IsCancellationRequested || count == 0; count++)
                    UnixSocket.Connect(path).Dispose();
                return count;
            },
            Ct);

        var old = new List<Socket>();
        for (var i = 0; i < 20; i++)
        {
            old.Add(listener);
            listener = UnixSocket.Listen(path, backlog: 4096);
        }

        await done.CancelAsync();
        Assert.True(await connects > 0);
        listener.Dispose();
        old.ForEach(socket => socket.Dispose());
    }

    [Theory]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite)]
    [InlineData(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)]
    public void The_name_has_the_mode_asked_for(UnixFileMode mode)
    {
        var path = Name("socket");
        using var listener = UnixSocket.Listen(path, mode: mode);

        Assert.Equal(mode, File.GetUnixFileMode(path));
    }

    [Theory]
    [InlineData(60)]
    [InlineData(105)] // the public name fits sun_path where the temporary one does not
    [InlineData(107)]
    [InlineData(108)]
    [InlineData(400)]
    public void Paths_of_any_length_work(int length)
    {
        var directory = _directory.Path;
        while (length - directory.Length > 110)
            directory = Path.Combine(directory, new string('d', 50));
        Directory.CreateDirectory(directory);
        var path = Path.Combine(directory, new string('s', Math.Min(length - directory.Length - 1, 80)));
        if (path.Length < length)
        {
            directory = Path.Combine(directory, new string('e', length - path.Length - 1));
            Directory.CreateDirectory(directory);
            path = Path.Combine(directory, Path.GetFileName(path));
        }

        Assert.Equal(length, path.Length);
        using var listener = UnixSocket.Listen(path);

        UnixSocket.Connect(path).Dispose();
        Assert.Equal([path], Directory.GetFileSystemEntries(directory).Where(File.Exists));
    }

    [Fact]
    public void A_name_that_cannot_fit_is_refused()
    {
        var path = Path.Combine(_directory.Path, new string('x', 108));

        Assert.Throws<ArgumentException>(() => UnixSocket.Connect(path));
        Assert.Throws<ArgumentException>(() => UnixSocket.Listen(path));
        Assert.Empty(Directory.GetFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Errors_name_the_path_and_leave_nothing_behind()
    {
        var nobody = Name("nobody");
        Assert.Equal($"connect({nobody}): ENOENT (No such file or directory)", Assert.Throws<SyscallException>(() => UnixSocket.Connect(nobody)).Message);

        var nowhere = Path.Combine(_directory.Path, "nowhere", "socket");
        Assert.Contains(Path.GetDirectoryName(nowhere)!, Assert.Throws<SyscallException>(() => UnixSocket.Listen(nowhere)).Message, StringComparison.Ordinal);

        var taken = Name("taken");
        Directory.CreateDirectory(taken);
        var e = Assert.Throws<SyscallException>(() => UnixSocket.Listen(taken));
        Assert.Equal(("rename", "EISDIR"), (e.Syscall, e.ErrnoName));
        Assert.Equal([taken], Directory.GetFileSystemEntries(_directory.Path));
    }

    [Theory]
    [InlineData(SocketType.Stream)]
    [InlineData(SocketType.Seqpacket)]
    public async Task A_pair_is_connected_and_close_on_exec(SocketType type)
    {
        var (first, second) = UnixSocket.Pair(type);
        using (first)
        using (second)
        {
            await first.SendAsync(new byte[5], Ct);

            Assert.Equal(5, await second.ReceiveAsync(new byte[10], Ct));
            Assert.Equal(type, first.SocketType);
            Assert.True(DescriptorInfo.Of(first.SafeHandle).CloseOnExec);
        }
    }

    private static bool IsRefused(string path)
    {
        try
        {
            UnixSocket.Connect(path).Dispose();
            return false;
        }
        catch (SyscallException e) when (e.ErrnoName == "ECONNREFUSED")
        {
            return true;
        }
    }

    private string Name(string name) => Path.Combine(_directory.Path, name);
}
