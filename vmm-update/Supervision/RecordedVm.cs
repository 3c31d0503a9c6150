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

    /// <summary>Clears the leftovers of a VM that has ended, so that its name can be used again.</summary>
    /// <exception cref="UpdateException">Its guest still runs.</exception>
    public static void RequireGone(VmDirectory directory)
    {
        if (VmFiles.ReadRecord(directory) is not { } record)
            return;
        if (Runs(record.Pid, record.StartTicks))
        {
            throw new UpdateException(
                "vm-exists", $"the guest of VM '{directory.Name}' still runs (pid {record.Pid}) without a supervisor", $"`cprsharp adopt {directory.Name}` takes it over again");
        }

        Directory.Delete(directory.Path, recursive: true);
    }
}
