using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>A VM that is known only from its files because its supervisor is not there.</summary>
internal static class RecordedVm
{
    /// <summary>Whether the recorded process is still that process, and not another of the same number.</summary>
    public static bool Runs(int pid, long startTicks)
    {
        try
        {
            return pid > 0 && ProcFs.StartTimeTicks(pid) == startTicks;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Whether one of a VM's processes runs: in an update, either may be the one that has the guest.</summary>
    public static bool Runs(VmDirectory directory) => RunningPid(directory) is not null;

    /// <summary>Clears the leftovers of a VM that has ended, so that its name can be used again.</summary>
    /// <exception cref="UpdateException">Its guest still runs.</exception>
    public static void RequireGone(VmDirectory directory)
    {
        if (VmFiles.ReadRecord(directory) is null)
            return;
        if (RunningPid(directory) is { } pid)
        {
            throw new UpdateException(
                "vm-exists", $"the guest of VM '{directory.Name}' still runs (pid {pid}) without a supervisor", $"`cprsharp adopt {directory.Name}` takes it over again");
        }

        Directory.Delete(directory.Path, recursive: true);
    }

    private static int? RunningPid(VmDirectory directory)
    {
        if (VmFiles.ReadRecord(directory) is not { } record)
            return null;
        if (Runs(record.Pid, record.StartTicks))
            return record.Pid;
        return VmFiles.ReadJournal(directory) is { } journal && Runs(journal.NewPid, journal.NewStartTicks) ? journal.NewPid : null;
    }
}
