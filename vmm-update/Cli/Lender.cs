using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Lends a supervisor without privileges what its update takes, where this process has them: see <see cref="Loans"/>.</summary>
internal sealed class Lender : IDisposable
{
    private const int SystemAdministrator = 21; // CAP_SYS_ADMIN, linux/capability.h

    private readonly List<Finding> _findings = [];
    private RealTimeLender? _realTime;

    /// <summary>What could not be lent, and why. The supervisor tries it itself, and says what it lacked.</summary>
    public IReadOnlyList<Finding> Findings => _findings;

    /// <param name="vm">Whose supervisor it is.</param>
    /// <param name="realTime">Whether a pause may come, which is in real time until this is disposed.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<Lender> LendAsync(VmConnection vm, bool realTime, CancellationToken cancellationToken)
    {
        var lender = new Lender();
        if (!Environment.IsPrivilegedProcess || VmFiles.ReadRecord(vm.Directory) is not { } record)
            return lender;
        await lender.TryAsync("supervisor", async () =>
        {
            if (IsPrivileged(record.SupervisorPid))
                return;
            foreach (var file in ThreadGroups.Apart(record.Pid))
                await lender.TryAsync(file, () => LendGroupAsync(vm, file, cancellationToken));
            foreach (var netdev in record.Spec.Descriptors.OfType<TapDescriptor>().GroupBy(t => t.Netdev, StringComparer.Ordinal))
                await lender.TryAsync(netdev.Key, () => LendTapsAsync(vm, record, [.. netdev], cancellationToken));
            if (realTime)
                await lender.TryAsync("real-time", async () => lender._realTime = await RealTimeLender.LendAsync(vm, cancellationToken));
        });
        return lender;
    }

    public void Dispose() => _realTime?.Dispose();

    private async Task TryAsync(string what, Func<Task> lend)
    {
        try
        {
            await lend();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or Qmp.QmpException)
        {
            _findings.Add(Finding.Warn("not-lent", what, $"root could not lend it to the supervisor: {e.Message}", "run cprsharp in the supervisor's version, and with all of root's capabilities"));
        }
    }

    private static async Task LendGroupAsync(VmConnection vm, string file, CancellationToken cancellationToken)
    {
        using var opened = File.OpenHandle(file, FileMode.Open, FileAccess.Write);
        await vm.LendAsync(new JsonObject { ["cgroups"] = new JsonArray(file) }, [opened], cancellationToken);
    }

    private static async Task LendTapsAsync(VmConnection vm, VmRecord record, TapDescriptor[] queues, CancellationToken cancellationToken)
    {
        using var process = PidFd.Open(record.Pid);
        using var queue = process.GetDescriptor(queues[0].Spare);
        for (var i = 0; i < Loans.TapsForOneUpdate; i++)
        {
            using var tap = IsolatedTap.Create(queues.Length, TapDevice.FlagsOf(queue));
            await vm.LendAsync(new JsonObject { ["tap"] = queues[0].Netdev, ["index"] = tap.Index }, [.. tap.Queues, tap.Packets], cancellationToken);
        }
    }

    private static bool IsPrivileged(int pid) => (ProcFs.Status(pid).Capabilities.Effective & (1UL << SystemAdministrator)) != 0;
}
