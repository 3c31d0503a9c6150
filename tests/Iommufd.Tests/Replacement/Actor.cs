using System.Net.Sockets;
using System.Text;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Iommufd.Tests.Replacement;

/// <summary>Another process that takes part in a hand-over: it says before each step which one it has reached, and goes on when it is told. So it can be killed at any.</summary>
internal sealed class Actor : IAsyncDisposable
{
    private const int SigKill = 9;
    private readonly ChildProcess _process;
    private readonly DescriptorSocket _control;

    private Actor(ChildProcess process, DescriptorSocket control, DescriptorSocket box) => (_process, _control, Box) = (process, control, box);

    internal PidFd PidFd => _process.PidFd;

    /// <summary>The way of the box.</summary>
    internal DescriptorSocket Box { get; }

    /// <param name="type">The class of the role.</param>
    /// <param name="role">The method.</param>
    /// <param name="ct">Cancels.</param>
    internal static async Task<Actor> StartAsync(Type type, string role, CancellationToken ct)
    {
        var directory = Directory.CreateTempSubdirectory("actor-");
        try
        {
            var path = Path.Combine(directory.FullName, "socket");
            using var listener = new Socket(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(2);
            using var output = new SafeFileHandle(1, ownsHandle: false);
            var process = ChildProcess.Start(Children.Role(type, role, path, asUser: null) with { StandardOutput = output });
            return new Actor(process, new DescriptorSocket(await listener.AcceptAsync(ct)), new DescriptorSocket(await listener.AcceptAsync(ct)));
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    /// <summary>Lets it do one step after the other until it has reached this one.</summary>
    internal async Task ReachAsync(string step, CancellationToken ct)
    {
        for (var buffer = new byte[64]; ;)
        {
            using var message = await _control.ReceiveAsync(buffer, ct);
            Assert.True(message.Bytes > 0, $"it has ended before it was {step}");
            if (Encoding.ASCII.GetString(buffer, 0, message.Bytes) == step)
                return;
            await GoAsync(ct);
        }
    }

    internal ValueTask GoAsync(CancellationToken ct) => _control.SendAsync(new byte[1], [], ct);

    /// <summary>When this returns the kernel has closed all that it had.</summary>
    internal async Task KillAsync()
    {
        _process.Signal(SigKill);
        Assert.Equal(new ExitStatus(null, SigKill), await _process.Exited);
    }

    public async ValueTask DisposeAsync()
    {
        _control.Dispose();
        Box.Dispose();
        await _process.DisposeAsync();
    }

    /// <summary>The actor's own side.</summary>
    internal sealed class Side : IDisposable
    {
        private readonly DescriptorSocket _control;

        private Side(DescriptorSocket control, DescriptorSocket box) => (_control, Box) = (control, box);

        internal DescriptorSocket Box { get; }

        internal static async Task<Side> JoinAsync() => new(await ConnectAsync(), await ConnectAsync());

        internal async Task ReachedAsync(string step)
        {
            await _control.SendAsync(Encoding.ASCII.GetBytes(step), []);
            using var go = await _control.ReceiveAsync(new byte[1]);
            if (go.Bytes == 0)
                throw new EndOfStreamException("the test has ended");
        }

        public void Dispose()
        {
            _control.Dispose();
            Box.Dispose();
        }

        private static async Task<DescriptorSocket> ConnectAsync()
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(Children.RoleArgument));
            return new DescriptorSocket(socket);
        }
    }
}
