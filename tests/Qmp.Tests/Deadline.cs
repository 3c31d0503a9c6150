namespace CprSharp.Qmp.Tests;

/// <summary>Upper bounds for waits that a correct program ends at once; they only turn a hang into a failure.</summary>
internal static class Deadline
{
    public static readonly TimeSpan Long = TimeSpan.FromSeconds(60);

    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(Long);

    public static Task Soon(this Task task) => task.WaitAsync(Long);
}
