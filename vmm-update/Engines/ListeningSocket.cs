using System.Globalization;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>Waits until a process listens on a Unix socket that it makes itself.</summary>
/// <remarks>Only for QEMU 10.0 and 10.1, whose cpr channel cannot be a socket made beforehand.</remarks>
internal static class ListeningSocket
{
    private const uint AcceptsConnections = 0x00010000; // __SO_ACCEPTCON, net/unix/af_unix.c: unix_seq_show

    public static async Task WaitAsync(string path, Vmm owner, CancellationToken cancellationToken)
    {
        using var changed = new SemaphoreSlim(0);
        using var watcher = new FileSystemWatcher(Path.GetDirectoryName(path)!);
        watcher.Created += (_, _) => changed.Release();
        watcher.Changed += (_, _) => changed.Release();
        watcher.EnableRaisingEvents = true;
        while (!Listens(path))
        {
            if (owner.Exited.IsCompleted)
                throw new VmmExitedException(owner, await owner.Exited, owner.LogTail());

            // bind(2) shows in the directory, listen(2) shows nowhere: look again after a moment even without a change.
            await changed.WaitAsync(TimeSpan.FromMilliseconds(2), cancellationToken);
        }
    }

    private static bool Listens(string path) =>
        File.ReadLines("/proc/net/unix").Any(line =>
            line.EndsWith(path, StringComparison.Ordinal)
            && line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, _, _, var flags, ..]
            && uint.TryParse(flags, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var bits)
            && (bits & AcceptsConnections) != 0);
}
