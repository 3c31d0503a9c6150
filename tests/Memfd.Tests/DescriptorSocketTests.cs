using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Interop;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class DescriptorSocketTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(SocketType.Stream, 1)]
    [InlineData(SocketType.Stream, 253)]
    [InlineData(SocketType.Seqpacket, 1)]
    [InlineData(SocketType.Seqpacket, 253)]
    public async Task Descriptors_arrive_in_order_and_close_on_exec(SocketType type, int count)
    {
        await using var sockets = new Sockets(type);
        var memfds = Enumerable.Range(1, count).Select(size => Memfd.Create("sent", size)).ToArray();

        await sockets.First.SendAsync("data"u8.ToArray(), memfds, Ct);
        var buffer = new byte[16];
        using var message = await sockets.Second.ReceiveAsync(buffer, Ct);

        Assert.Equal("data"u8.ToArray(), buffer[..message.Bytes]);
        var received = message.Descriptors.Select(d => DescriptorInfo.Of(d!)).ToArray();
        Assert.Equal(Enumerable.Range(1, count).Select(i => (long)i), received.Select(info => info.Size));
        Assert.All(received, info => Assert.True(info.CloseOnExec));
        Array.ForEach(memfds, memfd => memfd.Dispose());
    }

    [Fact]
    public async Task More_descriptors_than_a_message_takes_are_refused_before_anything_is_sent()
    {
        await using var sockets = new Sockets();
        using var memfd = Memfd.Create("x", 0);
        var descriptors = Enumerable.Repeat<SafeHandle>(memfd, DescriptorSocket.MaxDescriptors + 1).ToArray();

        var e = await Assert.ThrowsAsync<ArgumentException>(() => sockets.First.SendAsync(new byte[1], descriptors, Ct).AsTask());

        Assert.Contains("254 descriptors in one message; the kernel takes up to 253", e.Message, StringComparison.Ordinal);
        sockets.First.Dispose();
        using var end = await sockets.Second.ReceiveAsync(new byte[1], Ct);
        Assert.Equal(0, end.Bytes);
    }

    [Fact]
    public async Task Descriptors_without_data_are_refused()
    {
        await using var sockets = new Sockets();
        using var memfd = Memfd.Create("x", 0);

        await Assert.ThrowsAsync<ArgumentException>(() => sockets.First.SendAsync(default, [memfd], Ct).AsTask());
    }

    [Fact]
    public async Task A_closed_descriptor_is_refused_and_the_others_are_not_kept_open()
    {
        await using var sockets = new Sockets();
        using var open = Memfd.Create("open", 0);
        var closed = Memfd.Create("closed", 0);
        closed.Dispose();

        await Assert.ThrowsAsync<ObjectDisposedException>(() => sockets.First.SendAsync(new byte[1], [open, closed], Ct).AsTask());

        var inode = DescriptorInfo.Of(open).Inode;
        open.Dispose();
        Assert.Equal(0, OwnDescriptorsOf(inode));
    }

    [Fact]
    public async Task Messages_with_different_descriptors_stay_apart_on_a_stream()
    {
        await using var sockets = new Sockets();
        using var first = Memfd.Create("first", 1);
        using var second = Memfd.Create("second", 2);
        await sockets.First.SendAsync(new byte[3], [first], Ct);
        await sockets.First.SendAsync(new byte[4], [second], Ct);

        using var one = await sockets.Second.ReceiveAsync(new byte[100], Ct);
        using var two = await sockets.Second.ReceiveAsync(new byte[100], Ct);

        Assert.Equal((3, 1L), (one.Bytes, Memfd.GetSize(one.Descriptors[0]!)));
        Assert.Equal((4, 2L), (two.Bytes, Memfd.GetSize(two.Descriptors[0]!)));
    }

    [Fact]
    public async Task A_message_larger_than_the_sockets_buffer_waits_for_room()
    {
        await using var sockets = new Sockets();
        using var memfd = Memfd.Create("x", 7);
        var data = new byte[4 << 20];
        Random.Shared.NextBytes(data);

        var send = sockets.First.SendAsync(data, [memfd], Ct).AsTask();
        Assert.False(send.IsCompleted);
        var received = new byte[data.Length];
        var descriptors = 0;
        for (var filled = 0; filled < data.Length;)
        {
            using var message = await sockets.Second.ReceiveAsync(received.AsMemory(filled), Ct);
            filled += message.Bytes;
            descriptors += message.Descriptors.Count;
        }

        await send;
        Assert.Equal(data, received);
        Assert.Equal(1, descriptors);
    }

    [Fact]
    public async Task Receiving_waits_until_something_comes_or_the_wait_is_cancelled()
    {
        await using var sockets = new Sockets();
        using var cancellation = new CancellationTokenSource();
        var cancelled = sockets.Second.ReceiveAsync(new byte[1], cancellation.Token).AsTask();
        Assert.False(cancelled.IsCompleted);
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);

        using var memfd = Memfd.Create("x", 0);
        var receive = sockets.Second.ReceiveAsync(new byte[1], Ct).AsTask();
        Assert.False(receive.IsCompleted);
        await sockets.First.SendAsync(new byte[1], [memfd], Ct);

        using var message = await receive;
        Assert.Equal((1, 1), (message.Bytes, message.Descriptors.Count));
    }

    [Fact]
    public async Task A_peer_that_is_gone_is_the_end_of_the_stream_or_a_broken_pipe()
    {
        await using var sockets = new Sockets();
        sockets.First.Dispose();

        using var end = await sockets.Second.ReceiveAsync(new byte[1], Ct);
        var e = await Assert.ThrowsAsync<SocketException>(() => sockets.Second.SendAsync(new byte[1], [], Ct).AsTask());

        Assert.Equal(0, end.Bytes);
        Assert.Equal(SocketError.Shutdown, e.SocketErrorCode);
        Assert.Contains("EPIPE", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_io_uring_cannot_travel_and_the_message_says_so()
    {
        await using var sockets = new Sockets();
        SafeFileHandle ring;
        try
        {
            ring = Native.IoUring();
        }
        catch (NotSupportedException e)
        {
            Assert.Skip(e.Message);
            throw;
        }

        using (ring)
        {
            Assert.Equal(DescriptorKind.IoUring, DescriptorInfo.Of(ring).Kind);
            var e = await Assert.ThrowsAsync<SocketException>(() => sockets.First.SendAsync(new byte[1], [ring], Ct).AsTask());
            Assert.Equal(SocketError.InvalidArgument, e.SocketErrorCode);
            Assert.Contains("io_uring", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_packet_longer_than_the_buffer_is_an_error_and_leaks_nothing()
    {
        await using var sockets = new Sockets(SocketType.Seqpacket);
        var memfd = Memfd.Create("x", 0);
        var inode = DescriptorInfo.Of(memfd).Inode;
        await sockets.First.SendAsync(new byte[10], [memfd], Ct);
        memfd.Dispose();

        var e = await Assert.ThrowsAsync<IOException>(() => sockets.Second.ReceiveAsync(new byte[9], Ct).AsTask());

        Assert.Contains("MSG_TRUNC", e.Message, StringComparison.Ordinal);
        Assert.Equal(0, OwnDescriptorsOf(inode));
    }

    [Fact]
    public async Task Too_little_room_for_control_messages_is_told_and_what_came_is_owned()
    {
        await using var sockets = new Sockets();
        using var memfd = Memfd.Create("x", 5);
        await sockets.First.SendAsync(new byte[1], [memfd, memfd, memfd], Ct);
        var received = new List<SafeFileHandle>();

        // Header and room for two numbers.
        var bytes = ScmRights.Receive(sockets.SecondSocket.SafeHandle, new byte[1], received, 16 + 8, out var controlTruncated, out _);

        Assert.Equal((1, true, 2), (bytes, controlTruncated, received.Count));
        Assert.All(received, d => Assert.Equal(5, Memfd.GetSize(d)));
        received.ForEach(d => d.Dispose());
    }

    [Fact]
    public async Task A_process_that_may_not_open_more_learns_it_and_keeps_nothing()
    {
        await using var sockets = new Sockets();
        using var memfd = Memfd.Create("x", 0);
        var role = Children.Role(typeof(DescriptorSocketTests), nameof(Role_receives_at_its_limit), null, new InheritedDescriptor(sockets.SecondSocket.SafeHandle, 3));
        await sockets.First.SendAsync(new byte[1], Enumerable.Repeat<SafeHandle>(memfd, 200).ToArray(), Ct);

        var (output, status) = await Children.RunAsync(role, Ct);

        Assert.True(status.Code == 0, output);
    }

    [Fact(Explicit = true)]
    public async Task Role_receives_at_its_limit()
    {
        using var socket = new Socket(new SafeSocketHandle(3, ownsHandle: true));
        await using var descriptorSocket = new DescriptorSocket(socket);
        await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None, Ct); // the framework opens its own descriptors first
        var highest = ProcFs.Descriptors(Environment.ProcessId)[^1].Number;
        var limit = Scheduling.GetLimit(0, Resource.OpenFiles);
        Scheduling.SetLimit(0, Resource.OpenFiles, limit with { Soft = (ulong)highest + 51 });
        IOException e;
        try
        {
            e = await Assert.ThrowsAsync<IOException>(() => descriptorSocket.ReceiveAsync(new byte[1], Ct).AsTask());
        }
        finally
        {
            Scheduling.SetLimit(0, Resource.OpenFiles, limit);
        }

        Assert.Contains("MSG_CTRUNC", e.Message, StringComparison.Ordinal);
        Assert.Contains("RLIMIT_NOFILE", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(ProcFs.Descriptors(Environment.ProcessId), d => d.Info.Kind == DescriptorKind.Memfd && d.Info.Path.StartsWith("/memfd:x ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_peer_is_the_process_at_the_other_end()
    {
        using var directory = new TemporaryDirectory();
        var path = Path.Combine(directory.Path, "socket");
        using var listener = UnixSocket.Listen(path);
        await using var child = ChildProcess.Start(Children.Role(typeof(DescriptorSocketTests), nameof(Role_connects_and_sends_a_descriptor), path));
        await using var socket = new DescriptorSocket(await listener.AcceptAsync(Ct));

        Assert.Equal(new PeerCredentials(child.Pid, ProcFs.Status(Environment.ProcessId).UserIds.Effective, ProcFs.Status(Environment.ProcessId).GroupIds.Effective), socket.Peer);
        using var peer = socket.OpenPeerPidFd();
        Assert.Equal(child.Pid, peer.Pid);
        Assert.False(peer.HasExited);

        using (var message = await socket.ReceiveAsync(new byte[1], Ct))
            Assert.Equal(77, Memfd.GetSize(message.Descriptors[0]!));
        await socket.SendAsync(new byte[1], [], Ct);
        await peer.WaitForExitAsync(Ct);
        Assert.Equal("exit status 0", (await child.Exited.WaitAsync(Ct)).ToString());
    }

    [Fact(Explicit = true)]
    public async Task Role_connects_and_sends_a_descriptor()
    {
        await using var socket = new DescriptorSocket(UnixSocket.Connect(RoleArgument.Value));
        using var memfd = Memfd.Create("from the child", 77);
        await socket.SendAsync(new byte[1], [memfd], Ct);

        using var leave = await socket.ReceiveAsync(new byte[1], Ct);

        Assert.Equal(1, leave.Bytes);
    }

    [Fact]
    public async Task A_descriptor_is_claimed_once_and_the_rest_is_closed()
    {
        await using var sockets = new Sockets();
        var (kept, dropped) = (Memfd.Create("kept", 1), Memfd.Create("dropped", 2));
        var (keptInode, droppedInode) = (DescriptorInfo.Of(kept).Inode, DescriptorInfo.Of(dropped).Inode);
        await sockets.First.SendAsync(new byte[1], [kept, dropped], Ct);
        kept.Dispose();
        dropped.Dispose();
        var message = await sockets.Second.ReceiveAsync(new byte[1], Ct);

        using var claimed = message.Descriptors.Claim(0);
        Assert.Throws<InvalidOperationException>(() => message.Descriptors.Claim(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => message.Descriptors.Claim(2));
        Assert.Null(message.Descriptors[0]);
        message.Dispose();

        Assert.Throws<InvalidOperationException>(() => message.Descriptors.Claim(1));
        Assert.Equal((1, 0), (OwnDescriptorsOf(keptInode), OwnDescriptorsOf(droppedInode)));
    }

    [Fact]
    public void Only_connected_unix_sockets_are_wrapped()
    {
        using var inet = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        using var datagram = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);

        Assert.Throws<ArgumentException>(() => new DescriptorSocket(inet));
        Assert.Throws<ArgumentException>(() => new DescriptorSocket(datagram));
    }

    [Fact]
    public async Task A_socket_that_is_not_owned_stays_open()
    {
        var (first, second) = UnixSocket.Pair();
        using (first)
        using (second)
        {
            new DescriptorSocket(first, ownsSocket: false).Dispose();

            Assert.Equal(1, await first.SendAsync(new byte[1], Ct));
        }
    }

    private static int OwnDescriptorsOf(ulong inode) =>
        ProcFs.Descriptors(Environment.ProcessId).Count(d => d.Info.Kind == DescriptorKind.Memfd && d.Info.Inode == inode);

    private sealed class Sockets : IAsyncDisposable
    {
        internal Sockets(SocketType type = SocketType.Stream)
        {
            (var first, SecondSocket) = UnixSocket.Pair(type);
            (First, Second) = (new DescriptorSocket(first), new DescriptorSocket(SecondSocket));
        }

        internal DescriptorSocket First { get; }

        internal DescriptorSocket Second { get; }

        internal Socket SecondSocket { get; }

        public async ValueTask DisposeAsync()
        {
            await First.DisposeAsync();
            await Second.DisposeAsync();
        }
    }
}
