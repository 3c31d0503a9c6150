using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class SyscallGuardTests
{
    private const long Write = 1;

    /// <summary>A child that writes each line that it reads. What is kept from it, it takes for done.</summary>
    [Fact]
    public async Task What_is_answered_is_not_made_and_everything_else_goes_on()
    {
        var (ours, theirs) = UnixSocket.Pair();
        using (ours)
        {
            await using var child = ChildProcess.Start(new ChildProcessStart
            {
                Path = "/bin/sh",
                Arguments = ["-c", "while read -r line <&7; do echo \"$line\" >&8 || exit 3; done"],
                Descriptors = [new InheritedDescriptor(theirs.SafeHandle, 7), new InheritedDescriptor(theirs.SafeHandle, 8)],
            });
            theirs.Dispose();
            for (var round = 0; round < 20; round++)
            {
                var answered = new ConcurrentQueue<SystemCall>();
                using (await SyscallGuard.BeginAsync(child.PidFd, Answer))
                {
                    await SayAsync(ours, "lost\nheard it\n");
                    Assert.Equal("heard it\n", await HearAsync(ours));
                    Assert.Equal((Write, 5UL), Assert.Single(answered) is var call ? (call.Number, call.Third) : default);
                }

                await SayAsync(ours, "lost\n");
                Assert.Equal("lost\n", await HearAsync(ours));

                long? Answer(SystemCall call)
                {
                    if (call.Number != Write || call.Third != 5)
                        return null;
                    answered.Enqueue(call);
                    return 5;
                }
            }

            ours.Shutdown(SocketShutdown.Send);
            Assert.Equal(0, (await child.Exited.WaitAsync(TimeSpan.FromSeconds(10))).Code);
            Assert.Equal("ESRCH", (await Assert.ThrowsAsync<SyscallException>(() => SyscallGuard.BeginAsync(child.PidFd, _ => null))).ErrnoName);
        }
    }

    [Fact]
    public async Task A_process_that_ends_or_is_killed_ends_its_guard()
    {
        await using var child = ChildProcess.Start(new ChildProcessStart { Path = "/bin/sleep", Arguments = ["1000"] });
        using var guard = await SyscallGuard.BeginAsync(child.PidFd, _ => null);
        child.PidFd.Signal(9);
        Assert.Equal(9, (await child.Exited.WaitAsync(TimeSpan.FromSeconds(10))).Signal);
    }

    [Fact]
    public async Task Two_cannot_guard_one_process()
    {
        await using var child = ChildProcess.Start(new ChildProcessStart { Path = "/bin/sleep", Arguments = ["1000"] });
        using (await SyscallGuard.BeginAsync(child.PidFd, _ => null))
            Assert.Equal("EPERM", (await Assert.ThrowsAsync<SyscallException>(() => SyscallGuard.BeginAsync(child.PidFd, _ => null))).ErrnoName);
        child.PidFd.Signal(15);
        Assert.Equal(15, (await child.Exited.WaitAsync(TimeSpan.FromSeconds(10))).Signal);
    }

    private static async Task SayAsync(Socket socket, string text) => await socket.SendAsync(Encoding.ASCII.GetBytes(text));

    private static async Task<string> HearAsync(Socket socket)
    {
        var buffer = new byte[100];
        return Encoding.ASCII.GetString(buffer, 0, await socket.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(10)));
    }
}
