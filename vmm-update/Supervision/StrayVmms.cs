using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>VMMs that nobody has written down, because their supervisor died first; they are known by the logs that they write.</summary>
internal static class StrayVmms
{
    /// <summary>Kills every process that writes the log of a VMM of this generation, but for one.</summary>
    public static void End(VmDirectory directory, int generation, int except) => EndWriters(log => log == directory.VmmLog(generation), except);

    /// <summary>Kills every process that writes a log in this directory.</summary>
    public static void EndIn(string directory) => EndWriters(log => log.StartsWith(directory + "/", StringComparison.Ordinal), except: 0);

    private static void EndWriters(Func<string, bool> isLog, int except)
    {
        foreach (var process in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) || pid == except || !Writes(pid, isLog))
                continue;

            try
            {
                using var pidFd = PidFd.Open(pid);
                if (Writes(pid, isLog))
                    pidFd.Signal(Signals.Kill);
            }
            catch (SyscallException e) when (e.Errno == Errno.ESRCH)
            {
                // It ended by itself.
            }
        }
    }

    private static bool Writes(int pid, Func<string, bool> isLog)
    {
        try
        {
            return File.ResolveLinkTarget($"/proc/{pid}/fd/2", returnFinalTarget: false)?.FullName is { } log && isLog(log);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
