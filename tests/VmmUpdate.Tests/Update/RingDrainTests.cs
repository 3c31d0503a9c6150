using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Update;

public sealed class RingDrainTests
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(1);
    private static readonly IoUringInfo Idle = new(5, 1, 4);
    private static readonly IoUringInfo Busy = new(6, 1, 4);

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Nothing_under_way_is_no_wait()
    {
        await new RingDrain([], _ => Busy, Long).WaitAsync(Ct);
        await new RingDrain([3, 4], _ => Idle, Long).WaitAsync(Ct);
    }

    [Fact]
    public async Task It_is_asked_until_everything_is_answered()
    {
        var answers = new Queue<IoUringInfo?>([Busy, null, Busy, Idle]);
        await new RingDrain([3], _ => answers.Dequeue(), Long).WaitAsync(Ct);
        Assert.Empty(answers);
    }

    [Fact]
    public async Task What_does_not_end_calls_the_update_off_and_is_named()
    {
        var failure = await Assert.ThrowsAsync<UpdateException>(() => new RingDrain([3, 9], n => n == 9 ? Busy : Idle, TimeSpan.Zero).WaitAsync(Ct));
        Assert.Equal("io-in-flight", failure.Code);
        Assert.Contains("1 requests are under way on io_uring instance 9", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_ring_that_is_closed_has_nothing_under_way() =>
        await new RingDrain([3], _ => throw new SyscallException("open", "/proc/1/fdinfo/3", 2), Long).WaitAsync(Ct);
}
