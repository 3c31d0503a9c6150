namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Whether what we print goes to systemd's journal (<c>JOURNAL_STREAM</c>, systemd.exec(5)).</summary>
internal static class JournalStream
{
    /// <summary>The variable outlives redirections, so the socket's number decides.</summary>
    public static bool IsStandardError { get; } = IsDescriptor(2);

    private static bool IsDescriptor(int number) =>
        Environment.GetEnvironmentVariable("JOURNAL_STREAM")?.Split(':') is [_, var inode] &&
        new FileInfo($"/proc/self/fd/{number}").LinkTarget == $"socket:[{inode}]";
}
