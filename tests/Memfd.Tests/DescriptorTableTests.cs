using System.Diagnostics;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class DescriptorTableTests
{
    /// <summary>A child that reads lines from descriptor 7, over and over; between the lines, and only there, its file is another one.</summary>
    [Fact]
    public async Task A_descriptor_becomes_another_file_and_what_was_interrupted_goes_on()
    {
        var (ours, theirs) = UnixSocket.Pair();
        var (other, theirOther) = UnixSocket.Pair();
        using (ours)
        using (other)
        {
            await using var child = ChildProcess.Start(new ChildProcessStart
            {
                Path = "/bin/sh",
                Arguments = ["-c", "while read -r line <&7; do echo \"$line\" >&8; done"],
                Descriptors = [new InheritedDescriptor(theirs.SafeHandle, 7), new InheritedDescriptor(theirs.SafeHandle, 8), new InheritedDescriptor(theirOther.SafeHandle, 9)],
            });
            theirs.Dispose();
            theirOther.Dispose();
            for (var round = 0; round < 50; round++)
            {
                // The read that waits is of the file before, and goes on being that.
                DescriptorTable.Duplicate(child.PidFd, [(9, 10), (8, 11)]);
                await ours.SendAsync("hello\n"u8.ToArray());
                Assert.Equal("hello\n", await ReceiveAsync(ours));
            }

            DescriptorTable.Duplicate(child.PidFd, [(9, 8)]);
            await ours.SendAsync("there\n"u8.ToArray());
            Assert.Equal("there\n", await ReceiveAsync(other));
            Assert.Throws<SyscallException>(() => DescriptorTable.Duplicate(child.PidFd, [(77, 7)]));
            await ours.SendAsync("again\n"u8.ToArray());
            Assert.Equal("again\n", await ReceiveAsync(other));
            ours.Shutdown(System.Net.Sockets.SocketShutdown.Send);
            Assert.Equal(0, (await child.Exited.WaitAsync(TimeSpan.FromSeconds(10))).Code);
            Assert.Throws<SyscallException>(() => DescriptorTable.Duplicate(child.PidFd, [(9, 7)]));
        }

        static async Task<string> ReceiveAsync(System.Net.Sockets.Socket socket)
        {
            var buffer = new byte[100];
            return System.Text.Encoding.ASCII.GetString(buffer, 0, await socket.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(10)));
        }
    }

    [Fact]
    public async Task A_busy_process_is_stopped_for_less_than_anybody_notices()
    {
        await using var child = ChildProcess.Start(new ChildProcessStart { Path = "/bin/sh", Arguments = ["-c", "while :; do :; done"] });
        try
        {
            var watch = Stopwatch.StartNew();
            for (var i = 0; i < 20; i++)
                DescriptorTable.Duplicate(child.PidFd, [(0, 20)]);
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(5), $"20 changes took {watch.Elapsed}");
            Assert.Contains(ProcFs.Descriptors(child.Pid), d => d.Number == 20);
        }
        finally
        {
            child.PidFd.Signal(9);
        }

        await child.Exited;
    }
}
