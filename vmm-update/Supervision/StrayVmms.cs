using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>VMMs that were started but never written down, because their supervisor died between the two.</summary>
internal static class StrayVmms
{
    /// <summary>Kills every process that writes the log of a VMM of this generation, but for one.</summary>
    public static void End(VmDirectory directory, int generation, int except)
    {
        var log = directory.VmmLog(generation);
        foreach (var process in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) || pid == except || !Writes(pid, log))
                continue;

            try
            {
                using var pidFd = PidFd.Open(pid);
                if (Writes(pid, log))
                    pidFd.Signal(Signals.Kill);
            }
            catch (SyscallException e) when (e.Errno == Errno.ESRCH)
            {
                // It ended by itself.
            }
        }
    }

    private static bool Writes(int pid, string log)
    {
        try
        {
            return File.ResolveLinkTarget($"/proc/{pid}/fd/2", returnFinalTarget: false)?.FullName == log;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
