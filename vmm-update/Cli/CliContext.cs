using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>The commands that ask a running supervisor.</summary>
/// <param name="stateDirectory">Where VMs are made.</param>
/// <param name="others">Where else VMs are looked for: libvirt's are under its own users.</param>
/// <param name="json">Whether documents are printed, not text.</param>
/// <param name="terminal">Where to.</param>
internal sealed class CliContext(string stateDirectory, Func<IEnumerable<string>> others, bool json, Terminal terminal)
{
    public string StateDirectory { get; } = stateDirectory;

    /// <summary>All VMs, by name.</summary>
    public IEnumerable<VmDirectory> Vms => others().Prepend(StateDirectory).Distinct(StringComparer.Ordinal)
        .SelectMany(Hosting.StateDirectory.List)
        .DistinctBy(vm => vm.Name, StringComparer.Ordinal)
        .OrderBy(vm => vm.Name, StringComparer.Ordinal);

    /// <summary>A VM by its name, or by that of its libvirt domain; where it would be, when there is none.</summary>
    public VmDirectory Find(string name)
    {
        var own = new VmDirectory(StateDirectory, Libvirt.DomainName.ToVmName(name));
        return File.Exists(own.Record)
            ? own
            : others().Select(d => new VmDirectory(d, own.Name)).FirstOrDefault(vm => File.Exists(vm.Record)) ?? own;
    }

    public Terminal Terminal { get; } = terminal;

    public bool PrintsJson { get; } = json;

    public async Task<int> CheckAsync(string name, string? to, CancellationToken cancellationToken)
    {
        await using var vm = await VmConnection.OpenAsync(Find(name), cancellationToken);
        var arguments = new JsonObject();
        if (to is not null)
            arguments["to"] = ResolveBinary(to);
        using var lender = await Lender.LendAsync(vm, realTime: false, cancellationToken);
        var report = await vm.AskAsync(QmpNames.Check, arguments, ReportJson.Default.CheckReport, cancellationToken);
        report = report with { Findings = [.. report.Findings, .. lender.Findings] };
        report = report with { Verdict = CheckReport.Judge(report.Findings, report.Engines) };
        Print(report, ReportJson.Printed.CheckReport, Terminal.Check);
        return report.Verdict == Verdict.Blocked ? ExitCodes.Refused : ExitCodes.Done;
    }

    public Task<int> UpdateAsync(string name, string to, string? engine, bool dryRun, CancellationToken cancellationToken)
    {
        var arguments = new JsonObject { ["to"] = ResolveBinary(to), ["dry-run"] = dryRun };
        if (engine is not null)
            arguments["engine"] = engine;
        return SwitchAsync(name, QmpNames.Update, arguments, cancellationToken);
    }

    public Task<int> RollbackAsync(string name, CancellationToken cancellationToken) =>
        SwitchAsync(name, QmpNames.Rollback, [], cancellationToken);

    public async Task<int> StatusAsync(string? name, CancellationToken cancellationToken)
    {
        if (name is null)
            return await ListAsync(cancellationToken);

        var directory = Find(name);
        if (!File.Exists(directory.Record))
            await using (await VmConnection.OpenAsync(directory, cancellationToken)) { }

        var status = await StatusOfAsync(directory, cancellationToken);
        Print(new StatusDocument(1, [status]), ReportJson.Printed.StatusDocument, d => Terminal.Status(d.Vms[0]));
        return ExitCodes.Done;
    }

    public async Task<int> ListAsync(CancellationToken cancellationToken)
    {
        var all = await Task.WhenAll(Vms.Select(d => StatusOfAsync(d, cancellationToken)));
        Print(new StatusDocument(1, [.. all]), ReportJson.Printed.StatusDocument, d => Terminal.List(d.Vms));
        return ExitCodes.Done;
    }

    public async Task<int> HistoryAsync(string name, string? report)
    {
        var directory = Find(name);
        if (!File.Exists(directory.Record))
            throw new UpdateException("no-such-vm", $"there is no VM '{name}' in {StateDirectory}", "`cprsharp list` shows the VMs");
        var history = new HistoryDocument(1, name, await UpdateHistory.ReadAsync(directory));
        if (report is not null)
            await File.WriteAllTextAsync(report, HistoryPage.Render(history, DateTimeOffset.UtcNow));
        if (report is null || PrintsJson)
            Print(history, ReportJson.Printed.HistoryDocument, Terminal.History);
        else
            Terminal.Progress($"written: {report}");
        return ExitCodes.Done;
    }

    /// <summary>The full path of a binary given by path or by name.</summary>
    public static string ResolveBinary(string binary)
    {
        if (binary.Contains('/', StringComparison.Ordinal))
            return Path.GetFullPath(binary);

        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(d => Path.Combine(d, binary))
            .FirstOrDefault(File.Exists) ?? Path.GetFullPath(binary);
    }

    public void Print<T>(T document, JsonTypeInfo<T> type, Action<T> text)
    {
        if (PrintsJson)
            Terminal.Line(JsonSerializer.Serialize(document, type));
        else
            text(document);
    }

    private async Task<int> SwitchAsync(string name, string command, JsonObject arguments, CancellationToken cancellationToken)
    {
        var report = await SwitchAsync(Find(name), command, arguments, Terminal.Progress, cancellationToken);
        Print(report, ReportJson.Printed.UpdateReport, Terminal.Update);
        return report.ExitCode;
    }

    /// <summary>Updates a VM, or takes an update back, and says what became of it.</summary>
    /// <param name="directory">The VM.</param>
    /// <param name="command">One of ours.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="progress">Shows what it is at.</param>
    /// <param name="cancellationToken">Asks the supervisor to stop; what it makes of that is in its report.</param>
    /// <exception cref="UpdateException">No supervisor answers, or it went away.</exception>
    internal static async Task<UpdateReport> SwitchAsync(
        VmDirectory directory, string command, JsonObject arguments, Action<string> progress, CancellationToken cancellationToken)
    {
        await using var vm = await VmConnection.OpenAsync(directory, cancellationToken);
        if (Environment.GetEnvironmentVariable("CPRSHARP_FAULT") is { Length: > 0 } fault)
            arguments["fault"] = fault;
        using var lender = await Lender.LendAsync(vm, realTime: true, cancellationToken);
        using var phases = vm.SubscribeProgress();
        var shown = ShowAsync(phases, progress);
        await using var interrupted = cancellationToken.Register(() => _ = CancelAsync(directory, progress));
        var report = await AskForSwitchAsync(vm, command, arguments);
        phases.Dispose();
        await shown;
        return report with { Findings = [.. report.Findings, .. lender.Findings] };
    }

    private static async Task<UpdateReport> AskForSwitchAsync(VmConnection vm, string command, JsonObject arguments)
    {
        var before = await vm.AskAsync("status", null, ReportJson.Default.StatusReport, CancellationToken.None);
        try
        {
            return await vm.AskAsync(command, arguments, ReportJson.Default.UpdateReport, CancellationToken.None);
        }
        catch (Qmp.QmpConnectionException e)
        {
            return await LostSupervisor.AwaitReportAsync(vm.Directory, before.LastUpdate, e);
        }
    }

    private static async Task ShowAsync(Qmp.QmpEventSubscription phases, Action<string> progress)
    {
        try
        {
            await foreach (var e in phases)
            {
                if (e.Data.TryGetProperty("phase", out var phase))
                    progress($"{phase.GetString()} …");
            }
        }
        catch (IOException)
        {
            // The answer to the command tells what became of the connection.
        }
    }

    private static async Task CancelAsync(VmDirectory directory, Action<string> progress)
    {
        try
        {
            await using var second = await VmConnection.OpenAsync(directory, CancellationToken.None);
            progress("interrupted: asking the supervisor to stop");
            await second.AskAsync(QmpNames.Cancel, null, ReportJson.Default.JsonObject, CancellationToken.None);
        }
        catch (Exception e) when (e is IOException or UpdateException or Qmp.QmpException)
        {
            progress($"could not ask the supervisor to stop: {e.Message}");
        }
    }

    internal static async Task<StatusReport> StatusOfAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(TimeSpan.FromSeconds(5));
        try
        {
            await using var vm = await VmConnection.OpenAsync(directory, soon.Token);
            return await vm.AskAsync(QmpNames.Status, null, ReportJson.Default.StatusReport, soon.Token);
        }
        catch (Exception e) when (e is UpdateException or IOException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            var record = VmFiles.ReadRecord(directory) ?? throw new UpdateException("no-such-vm", $"VM '{directory.Name}' is gone", "");
            return UpdateService.StatusOf(record, directory, RecordedVm.Runs(record.Pid, record.StartTicks) ? "unsupervised" : "gone", "");
        }
    }
}
