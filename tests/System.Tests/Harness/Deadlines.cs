using System.Diagnostics;

namespace CprSharp.SystemTests.Harness;

/// <summary>How long things may take on a busy machine before they count as failed.</summary>
internal static class Deadlines
{
    public static TimeSpan Program { get; } = TimeSpan.FromSeconds(90);

    public static TimeSpan Guest { get; } = TimeSpan.FromSeconds(300);

    public static TimeSpan Settle { get; } = TimeSpan.FromSeconds(20);

    /// <summary>Asks until the answer is null, which means that nothing is wrong any more; for what the kernel announces to nobody.</summary>
    public static async Task EventuallyAsync(Func<Task<string?>> whatIsWrong, TimeSpan? longest = null)
    {
        if (await StillWrongAsync(whatIsWrong, longest ?? Settle) is { } wrong)
            Assert.Fail(wrong);
    }

    public static Task EventuallyAsync(Func<string?> whatIsWrong, TimeSpan? longest = null) =>
        EventuallyAsync(() => Task.FromResult(whatIsWrong()), longest);

    /// <summary>The same, for what may stay wrong: the last answer.</summary>
    public static async Task<string?> StillWrongAsync(Func<Task<string?>> whatIsWrong, TimeSpan longest)
    {
        var watch = Stopwatch.StartNew();
        while (await whatIsWrong() is { } wrong)
        {
            if (watch.Elapsed > longest)
                return wrong;
            await Task.Delay(50);
        }

        return null;
    }
}
