using System.Globalization;
using System.Net.Sockets;
using CprSharp.Iommufd.Handover;
using CprSharp.Iommufd.Tests.Kernel;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace CprSharp.Iommufd.Tests.Replacement;

/// <summary>The process that drives a device is replaced, again and again, each time in the middle of a DMA transfer.</summary>
[Collection(KernelCollection.Name)]
public sealed class ReplacementTests
{
    private const int CopiesOfEach = 4;

    /// <summary>How often, for <c>CPRSHARP_TEST_REPLACEMENTS</c>; a process of .NET takes an emulated host seconds to start.</summary>
    private static int Times =>
        Environment.GetEnvironmentVariable("CPRSHARP_TEST_REPLACEMENTS") is { Length: > 0 } times ? int.Parse(times, CultureInfo.InvariantCulture) : 4;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    /// <summary>Without a privilege: what each one has pinned is charged to it, and to nobody else.</summary>
    [Theory]
    [InlineData("send")]
    [InlineData("exec")]
    public async Task DMA_and_interrupts_go_on_over_many_replacements(string by)
    {
        EduDevice.Require();
        var faults = await Oracles.DmaFaultsAsync(Ct);
        var (output, status) = await RunAsync(by);

        Assert.True(status.Code == 0, output);
        var copies = 1 + (Times + 1) * CopiesOfEach;
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"replacements={Times + 1} copies={copies} interrupts={copies} mismatches=0"), output, StringComparison.Ordinal);
        Assert.Equal(faults, await Oracles.DmaFaultsAsync(Ct));
    }

    /// <summary>What would be seen if the memory under a device were exchanged while it runs: the checksum above, or the oracle of faults, can tell.</summary>
    [Fact]
    public async Task Memory_that_is_mapped_anew_under_running_DMA_is_seen()
    {
        EduDevice.Require();
        var faults = await Oracles.DmaFaultsAsync(Ct);
        using var driver = EduDriver.Open();
        using var ended = new CancellationTokenSource();
        var exchange = Task.Run(() =>
        {
            while (!ended.IsCancellationRequested)
            {
                driver.Unmap();
                ended.Token.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(150));
                driver.Map(driver.Ioas);
                ended.Token.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(150));
            }
        }, Ct);
        for (var copy = 0; copy < 40; copy++)
        {
            driver.Begin();
            driver.End();
        }

        await ended.CancelAsync();
        await exchange;
        Assert.NotEqual(0, driver.Mismatches);
        Assert.True(await Oracles.DmaFaultsAsync(Ct) > faults, "no fault of DMA was logged");
    }

    private static async Task<(string Output, ExitStatus Status)> RunAsync(string by)
    {
        var directory = Directory.CreateTempSubdirectory("replacement-");
        try
        {
            File.SetUnixFileMode(directory.FullName, (UnixFileMode)0b111_111_111);
            var path = Path.Combine(directory.FullName, "0");
            using var listener = Listen(path);
            var owner = Children.RunAsync(
                Children.Role(typeof(ReplacementTests), nameof(Role_drives), $"{by} {Times} 0 {path}", OtherUser.Nobody), Ct);
            using (var driver = EduDriver.Open())
            {
                driver.Begin();
                await using var socket = new DescriptorSocket(await listener.AcceptAsync(Ct));
                using var next = socket.OpenPeerPidFd();
                using var box = driver.Pack();
                await box.SendAsync(socket, next, OtherUser.Nobody, Ct);
                await ExpectThanksAsync(socket);
            }

            return await owner;
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }

    private static async Task Role_drives()
    {
        var words = Children.RoleArgument.Split(' ');
        var (by, left, user, from) = (words[0], int.Parse(words[1], CultureInfo.InvariantCulture), uint.Parse(words[2], CultureInfo.InvariantCulture), words[3]);
        using var driver = from.StartsWith('/') ? await ReceiveAsync(from, user) : Reopen(int.Parse(from, CultureInfo.InvariantCulture));
        Assert.Equal((long)EduDriver.Size, ProcFs.Status(Environment.ProcessId).PinnedBytes);
        for (var copy = 0; copy < CopiesOfEach; copy++)
        {
            driver.End();
            driver.Begin();
        }

        // Straight to whoever watches: the test itself has nothing to say before the last of many.
        await Console.Error.WriteLineAsync(string.Create(
            CultureInfo.InvariantCulture, $"{by}: replaced {driver.Replacements} times, {left} to come, {driver.Ended} copies, {driver.Mismatches} mismatches"));
        if (left == 0)
        {
            driver.End();
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"replacements={driver.Replacements} copies={driver.Begun} interrupts={driver.Ended} mismatches={driver.Mismatches}"));
            return;
        }

        // From here on a copy is under way.
        using var box = driver.Pack();
        if (by == "exec")
            Children.Execute(Next(box.Keep().ToString(CultureInfo.InvariantCulture)));
        var path = Path.Combine(Path.GetDirectoryName(from)!, left.ToString(CultureInfo.InvariantCulture));
        using var listener = Listen(path);
        using var output = new SafeFileHandle(1, ownsHandle: false);
        await using var child = ChildProcess.Start(Next(path) with { StandardOutput = output });
        await using var socket = new DescriptorSocket(await listener.AcceptAsync());
        await box.SendAsync(socket, child.PidFd, OtherUser.Nobody, CancellationToken.None);
        await ExpectThanksAsync(socket);
        Assert.Equal(0, ProcFs.Status(Environment.ProcessId).PinnedBytes);

        ChildProcessStart Next(string source) => Children.Role(
            typeof(ReplacementTests), nameof(Role_drives), string.Create(CultureInfo.InvariantCulture, $"{by} {left - 1} {OtherUser.Nobody} {source}"), asUser: null);
    }

    private static async Task<EduDriver> ReceiveAsync(string path, uint sender)
    {
        using var connected = new Socket(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified);
        await connected.ConnectAsync(new UnixDomainSocketEndPoint(path));
        await using var socket = new DescriptorSocket(connected);
        using var box = await ReceivedBox.ReceiveAsync(socket, sender);
        var driver = EduDriver.Claim(box);
        Assert.Empty(box.Unclaimed);
        driver.TakeOver(socket.Peer.Pid);
        await socket.SendAsync(new byte[1], [], CancellationToken.None);
        return driver;
    }

    private static EduDriver Reopen(int number)
    {
        using var box = ReceivedBox.Open(number);
        var driver = EduDriver.Claim(box);
        driver.TakeOver(Environment.ProcessId);
        return driver;
    }

    private static Socket Listen(string path)
    {
        var listener = new Socket(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110);
        listener.Listen(1);
        return listener;
    }

    private static async Task ExpectThanksAsync(DescriptorSocket socket)
    {
        using var message = await socket.ReceiveAsync(new byte[1], CancellationToken.None);
        Assert.True(message.Bytes == 1, "the next owner has ended");
    }
}
