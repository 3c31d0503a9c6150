using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class IoUringInfoTests
{
    /// <summary>Of QEMU 11.1 on Linux 6.18.</summary>
    private const string Idle = "pos:\t0\nflags:\t02000002\nSqMask:\t0x7f\nSqHead:\t5\nSqTail:\t5\nCachedSqHead:\t5\nCqMask:\t0xff\nCqHead:\t1\nCqTail:\t1\nCachedCqTail:\t1\n"
        + "SQEs:\t0\nCQEs:\t0\nUserFiles:\t0\nUserBufs:\t0\nPollList:\n  op=6, task_works=0\n  op=6, task_works=0\n  op=6, task_works=0\n  op=6, task_works=0\nCqOverflowList:\n";

    [Fact]
    public void Waiting_for_readiness_is_not_in_flight() => Assert.Equal(0, IoUringInfo.Parse(Idle)!.InFlight);

    [Theory]
    [InlineData("CachedSqHead:\t5", "CachedSqHead:\t7", 2)]
    [InlineData("CachedCqTail:\t1", "CachedCqTail:\t4294967295", 2)]
    [InlineData("  op=6, task_works=0\nCqOverflowList", "  op=23, task_works=0\nCqOverflowList", 1)]
    public void Other_requests_are(string from, string to, int expected) =>
        Assert.Equal(expected, IoUringInfo.Parse(Idle.Replace(from, to, StringComparison.Ordinal))!.InFlight);

    [Theory]
    [InlineData("")]
    [InlineData("PollList:\n")]
    [InlineData("CachedSqHead:\t1\nCachedCqTail:\t1\n")]
    [InlineData("CachedSqHead:\t-1\nCachedCqTail:\t1\nPollList:\n")]
    public void What_is_not_said_is_not_known(string text) => Assert.Null(IoUringInfo.Parse(text));
}
