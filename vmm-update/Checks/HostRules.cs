using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Rules on the host: is there room for a second VMM for a moment.</summary>
internal static class HostRules
{
    /// <summary>What a second QEMU needs beside guest RAM, which is shared: measured 60 to 150 MiB, translation buffer of TCG not counted.</summary>
    private const long VmmOverhead = 256L << 20;

    /// <summary>Journal, record, log and report of an update.</summary>
    private const long StateNeeded = 1L << 20;

    public static IEnumerable<Finding> Check(IVmHost host, VmInspection vm)
    {
        var available = MemAvailable();
        yield return available < VmmOverhead
            ? Finding.Fail(
                "host-memory", "host", $"{available >> 20} MiB of memory are available; a second VMM needs about {VmmOverhead >> 20} MiB beside the guest's RAM, which is shared",
                "free memory on the host")
            : Finding.Pass("host-memory", "host", $"{available >> 20} MiB available; guest RAM is not needed twice");

        var drive = host.Directory.Exists ? new DriveInfo(host.Directory.Path) : null;
        yield return drive is null
            ? Finding.Fail(
                "state-directory-missing", host.Directory.Path, "is not there any more, though its VM runs",
                "the guest runs on, but cannot be updated: restart it when that suits, and find out what deletes such directories")
            : drive.AvailableFreeSpace < StateNeeded
            ? Finding.Fail(
                "state-directory-full", host.Directory.Path, $"{drive.AvailableFreeSpace >> 10} KiB free", "free space there: the update's journal must be written")
            : Finding.Pass("state-directory", host.Directory.Path, $"{drive.AvailableFreeSpace >> 20} MiB free");

        if (ProcFs.SecurityLabel(host.Current.Pid) is { } label && ProcFs.SecurityLabel(Environment.ProcessId) is var own && label != own)
        {
            yield return Finding.Fail(
                "security-label", host.Current.Binary, $"the VMM runs as '{label}', the supervisor as '{own}': the new VMM would not get that label", "run the supervisor under the label, or the VMM without it");
        }

        var user = ProcFs.Status(host.Current.Pid).UserIds.Effective;
        if (user != 0 && user != ProcFs.Status(Environment.ProcessId).UserIds.Effective)
        {
            yield return Finding.Fail(
                "privileges", host.Current.Binary, $"the VMM runs as user {user}, who cannot reach the sockets of an update in {host.Directory.Path}, which is the supervisor's alone",
                "run the supervisor as that user, instead of -run-with user= or -runas");
        }

        if (vm.Accelerator == "kvm" && !CanOpen("/dev/kvm"))
            yield return Finding.Fail("privileges", "/dev/kvm", "the supervisor cannot open it, so the new VMM could not", "run the supervisor as the user and groups the VM was started with");
    }

    private static long MemAvailable()
    {
        const string key = "MemAvailable:";
        var line = File.ReadLines("/proc/meminfo").FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal));
        return line is null
            ? long.MaxValue
            : long.Parse(line[key.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture) << 10;
    }

    private static bool CanOpen(string path)
    {
        try
        {
            using var handle = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
