using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Supervision;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

public sealed class RealTimeLoanTests
{
    private static readonly HashSet<int> Except = [7, 8, 9];

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, true)]
    public async Task The_lender_is_told_whom_to_raise_and_says_whether_it_has(byte answer, bool hasRaised)
    {
        var (ours, theirs) = UnixSocket.Pair(SocketType.Seqpacket);
        using var lender = ours;
        using var loan = new RealTimeLoan(theirs.SafeHandle);
        var asked = Task.Run(() => loan.TryRaise([1, 2, 3], Except), TestContext.Current.CancellationToken);
        var message = new byte[RealTimeLoan.Longest];
        var length = lender.Receive(message);
        var (processes, except) = RealTimeLender.Parse(message.AsSpan(0, length))!.Value;
        Assert.Equal([1, 2, 3], processes);
        Assert.Equal(Except, except);
        lender.Send([answer]);
        Assert.Equal(hasRaised, await asked);
    }

    [Fact]
    public void A_lender_that_has_gone_raises_nothing()
    {
        var (ours, theirs) = UnixSocket.Pair(SocketType.Seqpacket);
        using var loan = new RealTimeLoan(theirs.SafeHandle);
        ours.Dispose();
        Assert.False(loan.TryRaise([1], Except));
        Assert.False(loan.TryRaise([1], Except));
    }

    [Fact]
    public void A_lender_that_is_late_finds_that_nobody_waits_any_more()
    {
        var (ours, theirs) = UnixSocket.Pair(SocketType.Seqpacket);
        using var lender = ours;
        using var loan = new RealTimeLoan(theirs.SafeHandle);
        Assert.False(loan.TryRaise([1], Except));
        Assert.NotEqual(0, lender.Receive(new byte[64]));
        Assert.Equal(0, lender.Receive(new byte[64])); // the end, upon which it takes back what it has set
    }

    [Fact]
    public void What_is_no_socket_is_not_taken()
    {
        using var file = File.OpenHandle("/dev/null");
        Assert.Throws<SocketException>(() => new RealTimeLoan(file).Dispose());
    }

    [Theory]
    [InlineData]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3, 1, 2)]
    [InlineData(-1, 1, 2)]
    [InlineData(int.MaxValue, 1)]
    public void A_message_that_does_not_hold_what_it_counts_is_none(params int[] message) =>
        Assert.Null(RealTimeLender.Parse(MemoryMarshal.AsBytes<int>(message)));

    [Fact]
    public void Half_a_number_is_none() => Assert.Null(RealTimeLender.Parse([1, 0, 0, 0, 5, 0]));
}
