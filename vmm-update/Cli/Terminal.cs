using CprSharp.VmmUpdate.Reporting;
using Spectre.Console;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>What people see. Data goes to standard output, progress and errors to standard error; colour only on a terminal, and not with <c>NO_COLOR</c>.</summary>
internal sealed class Terminal
{
    private readonly IAnsiConsole _out = Create(Console.Out, Console.IsOutputRedirected);
    private readonly IAnsiConsole _error = Create(Console.Error, Console.IsErrorRedirected);

    public static bool ShowsProgress => !Console.IsErrorRedirected;

    public void Progress(string text)
    {
        if (ShowsProgress)
            _error.MarkupLine($"[grey]{Markup.Escape(text)}[/]");
    }

    public void Error(ReportError error)
    {
        _error.MarkupLine($"[red]cprsharp: {Markup.Escape(error.Message)}[/]");
        if (error.Fix.Length > 0)
            _error.MarkupLine($"  {Markup.Escape(error.Fix)}");
    }

    public void Line(string text) => _out.WriteLine(text);

    public void Check(CheckReport report)
    {
        Findings(report.Findings, all: true);
        foreach (var engine in report.Engines)
        {
            var line = engine.Eligible
                ? $"engine {engine.Name}: fits, expected pause {engine.ExpectedPauseMs:0.0} ms"
                : $"engine {engine.Name}: does not fit: {string.Join("; ", engine.Reasons)}";
            _out.MarkupLine(Markup.Escape(line));
            PointOfNoReturn(engine.PointOfNoReturn);
        }

        _out.MarkupLine($"{Markup.Escape(report.Vm)}: QEMU {Markup.Escape(report.From.Version)} -> {Markup.Escape(report.To.Version.Length > 0 ? report.To.Version : report.To.Binary)}: {Words(report.Verdict)}");
    }

    public void Inventory(InventoryReport report)
    {
        foreach (var space in report.AddressSpaces)
        {
            _out.WriteLine(space.Ioas is null ? $"QEMU {report.Version}, pid {report.Pid}:" : $"QEMU {report.Version}, pid {report.Pid}, iommufd {space.Iommufd}, IOAS {space.Ioas}:");
            foreach (var area in space.Areas)
                _out.WriteLine($"  {area.Start}-{area.Last} {area.Access}: {area.What}; {area.Certainty}: {area.Evidence}");
        }

        if (report.NotProbed is { } why)
            _error.MarkupLine($"[yellow]the kernel was not asked:[/] {Markup.Escape(why)}");
    }

    public void Domain(DomainReport report)
    {
        Findings(report.Findings, all: true);
        _out.MarkupLine($"{Markup.Escape(report.Domain)}: {Words(report.Verdict)}");
        if (report.Changes.IsEmpty)
            return;
        _out.WriteLine("With these changes:");
        foreach (var change in report.Changes)
            _out.WriteLine($"  {change}");
        _out.WriteLine();
        _out.WriteLine(report.Xml);
    }

    public void Update(UpdateReport report)
    {
        Findings(report.Findings, all: false);
        foreach (var phase in report.Phases)
            Progress($"  {phase.Name.ToString().ToLowerInvariant(),-9} {phase.StartMs,9:0.0} ms  +{phase.DurationMs:0.00} ms");

        var where = $"{report.From.Version} -> {(report.To.Version.Length > 0 ? report.To.Version : report.To.Binary)}";
        var pause = report.PauseMs is { } ms ? $"pause {ms:0.00} ms" : "no pause";
        var line = report.Outcome switch
        {
            UpdateOutcome.Updated => $"[green]{Markup.Escape(report.Vm)}: updated[/] {Markup.Escape($"{where} with {report.Engine}; {pause}, total {report.TotalMs:0} ms")}",
            UpdateOutcome.Planned => Markup.Escape($"{report.Vm}: would be updated {where} with {report.Engine}"),
            UpdateOutcome.Refused => $"[red]{Markup.Escape(report.Vm)}: refused[/] {Markup.Escape($"{where}; nothing was touched")}",
            UpdateOutcome.RolledBack => $"[yellow]{Markup.Escape(report.Vm)}: failed, the guest was resumed on the old VMM[/] {Markup.Escape($"({report.From.Version}, pid {report.From.Pid}; {pause})")}",
            UpdateOutcome.Failed => $"[yellow]{Markup.Escape(report.Vm)}: not updated; the guest never left the old VMM[/] {Markup.Escape($"({report.From.Version}, pid {report.From.Pid})")}",
            _ => $"[red]{Markup.Escape(report.Vm)}: the guest's state is unknown[/]",
        };
        _out.MarkupLine(line);
        if (report.Outcome == UpdateOutcome.Planned)
            PointOfNoReturn(report.PointOfNoReturn);
        if (report.Error is { } error)
            Error(error);
    }

    public void Reexec(ReexecReport report)
    {
        _out.MarkupLine(report.Outcome == ReexecReport.Replaced
            ? $"[green]{Markup.Escape(report.Vm)}: supervisor replaced[/] {Markup.Escape($"{report.From.Version} -> {report.To.Version} (pid {report.Pid}, {report.To.Binary}); clients waited {report.UnservedMs:0} ms")}"
            : $"[red]{Markup.Escape(report.Vm)}: supervisor not replaced[/] {Markup.Escape($"({report.From.Version}, pid {report.Pid} goes on)")}");
        if (report.Error is { } error)
            Error(error);
    }

    public void Status(StatusReport status)
    {
        var grid = new Grid().AddColumn(new GridColumn().PadRight(2)).AddColumn();
        Row("vm", status.Vm);
        Row("state", status.Supervision == "supervised" ? status.RunState : $"{status.Supervision}{(status.RunState.Length > 0 ? $", {status.RunState}" : "")}");
        Row("vmm", $"QEMU {status.Vmm.Version}, pid {status.Vmm.Pid}, {status.Vmm.Binary}");
        Row("machine", status.MachineType);
        Row("supervisor", $"pid {status.SupervisorPid}");
        Row("qmp", status.QmpSocket);
        if (status.UpdateUnderWay is { } phase)
            Row("update", $"under way: {phase}");
        if (status.LastUpdate is { } last)
        {
            Row("last update", $"{last:yyyy-MM-dd HH:mm:ss}Z {status.LastOutcome}{(status.Engine is { } e ? $" with {e}" : "")}{(status.LastPauseMs is { } p ? $", pause {p:0.00} ms" : "")}");
            if (status.PreviousBinary is { } previous)
                Row("rollback to", previous);
        }

        foreach (var change in status.Changes)
            Row("changed", change);
        _out.Write(grid);

        void Row(string name, string value) => grid.AddRow(Markup.Escape(name), Markup.Escape(value));
    }

    public void List(IReadOnlyCollection<StatusReport> vms)
    {
        if (vms.Count == 0)
        {
            Progress("no VMs");
            return;
        }

        var table = new Table().Border(TableBorder.None).AddColumns("VM", "STATE", "QEMU", "PID", "MACHINE", "LAST UPDATE");
        foreach (var vm in vms)
        {
            table.AddRow(
                Markup.Escape(vm.Vm),
                Markup.Escape(vm.Supervision == "supervised" ? vm.RunState : vm.Supervision),
                Markup.Escape(vm.Vmm.Version),
                Markup.Escape($"{vm.Vmm.Pid}"),
                Markup.Escape(vm.MachineType),
                Markup.Escape(vm.LastUpdate is { } last ? $"{last:yyyy-MM-dd HH:mm:ss}Z {vm.LastOutcome}" : "never"));
        }

        _out.Write(table);
    }

    public void Fleet(FleetReport fleet)
    {
        if (fleet.Vms.IsEmpty)
        {
            Progress("no VMs");
            return;
        }

        var table = new Table().Border(TableBorder.None).AddColumns("VM", "OUTCOME", "FROM", "TO", "ENGINE", "PAUSE ms", "TOTAL ms", "ERROR");
        foreach (var member in fleet.Vms)
        {
            var update = member.Update;
            table.AddRow(
                Markup.Escape(member.Vm),
                Markup.Escape(Words(member)),
                Markup.Escape(update?.From.Version ?? "-"),
                Markup.Escape(update?.To.Version ?? "-"),
                Markup.Escape(update?.Engine ?? "-"),
                Markup.Escape(update?.PauseMs is { } pause ? $"{pause:0.00}" : "-"),
                Markup.Escape(update is null ? "-" : $"{update.TotalMs:0}"),
                Markup.Escape(member.Error?.Message ?? ""));
        }

        _out.Write(table);
        var counts = fleet.Vms.CountBy(Words).Select(c => $"{c.Value} {c.Key}");
        _out.WriteLine($"{fleet.Vms.Length} VMs in {fleet.TotalMs / 1000:0.0} s: {string.Join(", ", counts)}");
    }

    private static string Words(Verdict verdict) => verdict switch
    {
        Verdict.Ready => "[green]ready[/]",
        Verdict.ReadyWithWarnings => "[yellow]ready, with warnings[/]",
        _ => "[red]blocked[/]",
    };

    public static string Words(FleetMember member) => member.Outcome switch
    {
        FleetOutcome.AlreadyThere => "already there",
        FleetOutcome.RolledBack => "rolled back",
        FleetOutcome.NotStarted => "not started",
        _ => member.Outcome.ToString().ToLowerInvariant(),
    };

    public void History(HistoryDocument history)
    {
        if (history.Updates.IsEmpty)
        {
            Progress("no updates");
            return;
        }

        var table = new Table().Border(TableBorder.None).AddColumns("WHEN", "FROM", "TO", "ENGINE", "OUTCOME", "PAUSE ms", "TOTAL ms", "ERROR");
        foreach (var u in history.Updates)
        {
            table.AddRow(
                Markup.Escape($"{u.Started:yyyy-MM-dd HH:mm:ss}Z"),
                Markup.Escape(u.From.Version),
                Markup.Escape(u.To.Version),
                Markup.Escape(u.Engine ?? "-"),
                Markup.Escape(u.Outcome.ToString()),
                Markup.Escape(u.PauseMs is { } p ? $"{p:0.00}" : "-"),
                Markup.Escape($"{u.TotalMs:0}"),
                Markup.Escape(u.Error?.Message ?? ""));
        }

        _out.Write(table);
    }

    private void PointOfNoReturn(PointOfNoReturn? point)
    {
        if (point is not null)
            _out.MarkupLine(Markup.Escape($"  point of no return: {point.Phase.ToString().ToLowerInvariant()}, {point.Why}"));
    }

    private void Findings(IEnumerable<Finding> findings, bool all)
    {
        foreach (var finding in findings.Where(f => all || f.Severity != Severity.Pass))
        {
            var mark = finding.Severity switch
            {
                Severity.Pass => "[green]PASS[/]",
                Severity.Warn => "[yellow]WARN[/]",
                _ => "[red]FAIL[/]",
            };
            var fix = finding.Fix.Length > 0 ? $" [[{Markup.Escape(finding.Fix)}]]" : "";
            _out.MarkupLine($"{mark} {Markup.Escape(finding.Id)} {Markup.Escape(finding.Object)}: {Markup.Escape(finding.Evidence)}{fix}");
        }
    }

    private static IAnsiConsole Create(TextWriter writer, bool redirected)
    {
        var plain = redirected || !string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            Interactive = InteractionSupport.No,
        });
        if (redirected)
            console.Profile.Width = 100_000; // a pipe has no width: one finding stays one line
        return console;
    }
}
