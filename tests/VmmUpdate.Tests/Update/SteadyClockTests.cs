using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Update;

public sealed class SteadyClockTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(3600)]
    [InlineData(-3600)]
    [InlineData(0.5)]
    public void A_clock_that_is_set_does_not_lengthen_what_lies_between_two_timestamps(double step)
    {
        var time = new SetClock();
        var clock = new SteadyClock(time);
        var before = clock.Steady(time.Microseconds);

        time.Pass(TimeSpan.FromMilliseconds(8));
        time.Set(TimeSpan.FromSeconds(step));

        Assert.Equal(8000, clock.Steady(time.Microseconds) - before);
    }

    [Theory]
    [InlineData(3600)]
    [InlineData(-3600)]
    public void Nor_does_one_that_is_set_after_the_timestamp_was_written(double step)
    {
        var time = new SetClock();
        var clock = new SteadyClock(time);
        var before = clock.Steady(time.Microseconds);

        time.Pass(TimeSpan.FromMilliseconds(8));
        var written = time.Microseconds;
        time.Set(TimeSpan.FromSeconds(step));

        Assert.Equal(8000, clock.Steady(written) - before);
    }

    private sealed class SetClock : TimeProvider
    {
        private TimeSpan _passed;
        private TimeSpan _set;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public long Microseconds => (GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

        public void Pass(TimeSpan time) => _passed += time;

        public void Set(TimeSpan by) => _set += by;

        public override long GetTimestamp() => _passed.Ticks;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch + TimeSpan.FromDays(20000) + _passed + _set;
    }
}
