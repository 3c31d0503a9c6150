using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Update;

public sealed class WakefulProcessorsTests
{
    private const string Device = "/dev/cpu_dma_latency";

    [Fact]
    public void Processors_do_not_sleep_until_it_ends_where_that_is_ours_to_say()
    {
        if (!Environment.IsPrivilegedProcess || !File.Exists(Device))
        {
            Assert.Null(WakefulProcessors.TryBegin());
            return;
        }

        var before = AllowedLatencyMicroseconds();
        using (var awake = WakefulProcessors.TryBegin())
        {
            Assert.NotNull(awake);
            Assert.Equal(0, AllowedLatencyMicroseconds());
        }

        Assert.Equal(before, AllowedLatencyMicroseconds());
        Assert.NotEqual(0, before);
    }

    /// <summary>What all requests of the host amount to.</summary>
    private static int AllowedLatencyMicroseconds()
    {
        using var device = File.OpenHandle(Device, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        var value = new byte[sizeof(int)];
        Assert.Equal(value.Length, RandomAccess.Read(device, value, 0));
        return BitConverter.ToInt32(value);
    }
}
