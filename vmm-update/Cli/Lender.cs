using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Lends a supervisor without privileges what its update takes, where this process has them: see <see cref="Loans"/>.</summary>
internal static class Lender
{
    private const int SystemAdministrator = 21; // CAP_SYS_ADMIN, linux/capability.h

    /// <summary>Whatever cannot be lent the supervisor tries itself, and says what it lacked.</summary>
    public static async Task LendAsync(VmConnection vm, CancellationToken cancellationToken)
    {
        if (!Environment.IsPrivilegedProcess || VmFiles.ReadRecord(vm.Directory) is not { } record)
            return;
        try
        {
            if (!IsPrivileged(record.SupervisorPid))
                await LendAsync(vm, record, cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or Qmp.QmpException)
        {
            // It went away, or is one that borrows nothing.
        }
    }

    /// <summary>Real time for the pause, until disposed; null where the supervisor takes it itself, or does not know of it.</summary>
    public static async Task<RealTimeLender?> LendRealTimeAsync(VmConnection vm, CancellationToken cancellationToken)
    {
        if (!Environment.IsPrivilegedProcess || VmFiles.ReadRecord(vm.Directory) is not { } record)
            return null;
        try
        {
            return IsPrivileged(record.SupervisorPid) ? null : await RealTimeLender.LendAsync(vm, cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or Qmp.QmpException)
        {
            return null;
        }
    }

    private static async Task LendAsync(VmConnection vm, VmRecord record, CancellationToken cancellationToken)
    {
        foreach (var files in ThreadGroups.Apart(record.Pid).Chunk(Qmp.QmpCommandOptions.MaxDescriptors))
        {
            var opened = files.Select(f => File.OpenHandle(f, FileMode.Open, FileAccess.Write)).ToArray();
            await vm.LendAsync(new JsonObject { ["cgroups"] = new JsonArray([.. files.Select(f => (JsonNode)f)]) }, opened, cancellationToken);
            foreach (var file in opened)
                file.Dispose();
        }

        using var process = PidFd.Open(record.Pid);
        foreach (var netdev in record.Spec.Descriptors.OfType<TapDescriptor>().GroupBy(t => t.Netdev, StringComparer.Ordinal))
        {
            using var queue = process.GetDescriptor(netdev.First().Spare);
            for (var i = 0; i < Loans.TapsForOneUpdate; i++)
            {
                using var tap = IsolatedTap.Create(netdev.Count(), TapDevice.FlagsOf(queue));
                await vm.LendAsync(new JsonObject { ["tap"] = netdev.Key, ["index"] = tap.Index }, [.. tap.Queues, tap.Packets], cancellationToken);
            }
        }
    }

    private static bool IsPrivileged(int pid) => (ProcFs.Status(pid).Capabilities.Effective & (1UL << SystemAdministrator)) != 0;
}
