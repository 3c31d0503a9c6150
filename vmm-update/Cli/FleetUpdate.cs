using System.Diagnostics;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp update --all</c>: every VM of this host, a few at a time, until too many have failed.</summary>
/// <remarks>Can be repeated: those that run on the target already are left alone.</remarks>
internal sealed class FleetUpdate(CliContext cli, string to, string? engine, bool dryRun)
{
    private int _failures;

    public async Task<int> RunAsync(int parallel, int maxFailures, CancellationToken cancellationToken)
    {
        if (parallel < 1)
            throw new ArgumentException("--parallel takes a number from 1 up", nameof(parallel));
        if (maxFailures < 1)
            throw new ArgumentException("--max-failures takes a number from 1 up", nameof(maxFailures));
        var watch = Stopwatch.StartNew();
        var vms = cli.Vms.ToArray();
        var members = new FleetMember[vms.Length];
        await Parallel.ForAsync(0, vms.Length, new ParallelOptions { MaxDegreeOfParallelism = parallel }, async (i, _) =>
        {
            var enough = cancellationToken.IsCancellationRequested || Volatile.Read(ref _failures) >= maxFailures;
            var member = await OneAsync(vms[i], enough, cancellationToken);
            if (member.Outcome is FleetOutcome.Refused or FleetOutcome.Failed or FleetOutcome.RolledBack or FleetOutcome.Unknown)
                Interlocked.Increment(ref _failures);
            members[i] = member;
            cli.Terminal.Progress($"{member.Vm}: {Terminal.Words(member)}");
        });
        var report = new FleetReport(1, to, Math.Round(watch.Elapsed.TotalMilliseconds, 3), [.. members]);
        cli.Print(report, ReportJson.Printed.FleetReport, cli.Terminal.Fleet);
        return report.ExitCode;
    }

    private async Task<FleetMember> OneAsync(VmDirectory vm, bool enough, CancellationToken cancellationToken)
    {
        try
        {
            var status = await CliContext.StatusOfAsync(vm, CancellationToken.None);
            if (status.Supervision == "gone")
                return new FleetMember(vm.Name, FleetOutcome.Gone, null, null);
            if (RunsOnTarget(status))
                return new FleetMember(vm.Name, FleetOutcome.AlreadyThere, null, null);
            if (enough)
                return new FleetMember(vm.Name, FleetOutcome.NotStarted, null, null);

            var arguments = new JsonObject { ["to"] = to, ["dry-run"] = dryRun };
            if (engine is not null)
                arguments["engine"] = engine;
            var update = await CliContext.SwitchAsync(vm, QmpNames.Update, arguments, static _ => { }, cancellationToken);
            return new FleetMember(vm.Name, Outcome(update.Outcome), update, update.Error);
        }
        catch (UpdateException e)
        {
            return new FleetMember(
                vm.Name, e.LeavesStateUnknown ? FleetOutcome.Unknown : FleetOutcome.Failed, null, new ReportError(e.Code, e.Message, e.Fix));
        }
        catch (Exception e) when (e is IOException or Qmp.QmpException or OperationCanceledException)
        {
            return new FleetMember(vm.Name, FleetOutcome.Failed, null, new ReportError("failed", e.Message, ""));
        }
    }

    /// <summary>By the file that it runs: a binary that was replaced under its name is another.</summary>
    private bool RunsOnTarget(StatusReport status)
    {
        try
        {
            return ProcFs.ExecutablePath(status.Vmm.Pid) == (File.ResolveLinkTarget(to, returnFinalTarget: true)?.FullName ?? to);
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static FleetOutcome Outcome(UpdateOutcome outcome) => outcome switch
    {
        UpdateOutcome.Updated => FleetOutcome.Updated,
        UpdateOutcome.Planned => FleetOutcome.Planned,
        UpdateOutcome.Refused => FleetOutcome.Refused,
        UpdateOutcome.RolledBack => FleetOutcome.RolledBack,
        UpdateOutcome.Unknown => FleetOutcome.Unknown,
        _ => FleetOutcome.Failed,
    };
}
