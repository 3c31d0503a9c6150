using System.CommandLine;
using System.CommandLine.Help;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>The commands of the <c>cprsharp</c> program and their options.</summary>
internal static class CommandTree
{
    private static readonly Option<bool> Json = new("--json") { Description = "Print one JSON document on standard output and nothing else", Recursive = true };

    /// <summary>How long an interrupted command may take to end what it began: an update that is in the pause is finished first.</summary>
    private static readonly TimeSpan Interruption = TimeSpan.FromMinutes(10);

    private static readonly Option<string?> StateDir = new("--state-dir")
    {
        Description = "Directory of runtime state (default: $CPRSHARP_STATE_DIR, $XDG_RUNTIME_DIR/cprsharp or /run/cprsharp)",
        Recursive = true,
        HelpName = "DIR",
    };

    private const string Description = """
        Replaces the QEMU under a running guest by another build of QEMU, and back. The guest pauses for milliseconds.

        First steps:
          cprsharp run --name web1 --detach -- qemu-system-x86_64 -machine q35 -m 2G ...
          cprsharp check web1 --to /opt/qemu/bin/qemu-system-x86_64
          cprsharp update web1 --to /opt/qemu/bin/qemu-system-x86_64
          cprsharp rollback web1

        Exit codes:
          0   done
          1   failed; the guest never left the old VMM
          2   usage
          3   refused by the check; nothing was touched
          4   failed after the pause began; the guest was resumed on the old VMM
          5   the guest's state is unknown; an operator is needed
          75  another update is under way
          78  bad configuration
        `cprsharp run` ends with QEMU's own exit status.
        """;

    public static async Task<int> RunAsync(string[] args)
    {
        var root = new RootCommand(Description);
        root.Options.Add(Json);
        root.Options.Add(StateDir);
        root.Subcommands.Add(Run());
        root.Subcommands.Add(Adopt());
        root.Subcommands.Add(Check());
        root.Subcommands.Add(Update());
        root.Subcommands.Add(Rollback());
        root.Subcommands.Add(Status());
        root.Subcommands.Add(List());
        root.Subcommands.Add(History());
        root.Subcommands.Add(Metrics());
        root.Subcommands.Add(Inventory());
        root.Subcommands.Add(LibvirtDomains());
        root.Subcommands.Add(FaultPoints());
        root.Subcommands.Add(Reexec());
        root.Subcommands.Add(SupervisorStates());

        var parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0 && parsed.Action is not HelpAction)
        {
            var message = string.Join("; ", parsed.Errors.Select(e => e.Message));
            new Terminal().Error(new ReportError("usage", message, $"see `cprsharp{Suffix(parsed)} --help`"));
            return ExitCodes.Usage;
        }

        return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = Interruption });
    }

    private static string Suffix(ParseResult parsed) => parsed.CommandResult.Command is RootCommand ? "" : $" {parsed.CommandResult.Command.Name}";

    private static Command Run()
    {
        var name = new Option<string>("--name") { Description = "Name of the VM", Required = true, HelpName = "NAME" };
        var detach = new Option<bool>("--detach") { Description = "Return as soon as the guest runs; its supervisor goes on in the background" };
        var print = new Option<bool>("--print-command") { Description = "Print the QEMU command line that would be run, and what was changed on it; start nothing" };
        var hold = new Option<bool>(RunCommand.HoldDevices) { Description = "Open passed-through devices and the IOMMU here and pass them on (fd=): QEMU itself needs no access to /dev/vfio and /dev/iommu" };
        var adopt = new Option<bool>("--adopt") { Description = "Should the guest run already, go on with it rather than refuse; what is after -- is for the next start. For services: a unit's main process is then the guest's supervisor" };
        var ready = new Option<int?>("--ready-fd") { Hidden = true };
        var qemu = new Argument<string[]>("QEMU ARGS") { Description = "After --: the QEMU binary, a path or a name to look for in PATH, and its arguments", Arity = ArgumentArity.OneOrMore };
        return Command("run", "Start QEMU under a supervisor, ready for live update: cprsharp run --name NAME -- QEMU ARGS", [name, detach, print, hold, adopt, ready], [qemu], (p, cli, ct) =>
            new RunCommand(cli).RunAsync(p.GetValue(name)!, p.GetValue(qemu)!, p.GetValue(detach), p.GetValue(print), p.GetValue(hold), p.GetValue(adopt), p.GetValue(ready), ct));
    }

    private static Command Adopt()
    {
        var name = Name();
        var qmp = new Option<string?>("--qmp") { Description = "QMP Unix socket of a QEMU that cprsharp did not start; without it, a VM of `cprsharp run` whose supervisor was lost is taken over again", HelpName = "PATH" };
        var foreground = new Option<bool>("--foreground") { Description = "Supervise in this process instead of in the background" };
        var ready = new Option<int?>("--ready-fd") { Hidden = true };
        return Command("adopt", "Take over a running QEMU: one that was started without cprsharp, or one whose supervisor was lost", [qmp, foreground, ready], [name], (p, cli, ct) =>
            new AdoptCommand(cli).RunAsync(p.GetValue(name)!, p.GetValue(qmp), p.GetValue(foreground), p.GetValue(ready), ct));
    }

    private static Command Check()
    {
        var name = Name();
        var to = new Option<string?>("--to") { Description = "The QEMU binary to check against, a path or a name to look for in PATH (default: the one that runs)", HelpName = "BINARY" };
        return Command("check", "Say whether the VM could be updated, and what stands in the way; changes nothing", [to], [name], (p, cli, ct) =>
            cli.CheckAsync(p.GetValue(name)!, p.GetValue(to), ct));
    }

    private static Command Update()
    {
        var name = new Argument<string?>("NAME") { Description = "Name of the VM; none with --all", Arity = ArgumentArity.ZeroOrOne };
        var all = new Option<bool>("--all") { Description = "Update every VM of this host; those that run on the target already are left alone" };
        var parallel = new Option<int>("--parallel") { Description = "With --all: how many VMs at a time", HelpName = "N", DefaultValueFactory = _ => 1 };
        var maxFailures = new Option<int>("--max-failures") { Description = "With --all: begin no further one after so many have failed or were refused", HelpName = "N", DefaultValueFactory = _ => 1 };
        var to = new Option<string>("--to") { Description = "The QEMU binary that the guest is to run on, a path or a name to look for in PATH", Required = true, HelpName = "BINARY" };
        var engine = new Option<string?>("--engine") { Description = "auto (what fits with the shortest expected pause), transfer, shared-ram, or exec (same process and PID; never taken by auto) (default: the setting Update:Engine, else auto)", HelpName = "ENGINE" };
        engine.AcceptOnlyFromAmong("auto", "transfer", "shared-ram", "exec");
        var dryRun = new Option<bool>("--dry-run") { Description = "Check and plan, then stop; nothing is started" };
        return Command("update", "Live-update the VM: its guest goes on under another QEMU", [to, engine, dryRun, all, parallel, maxFailures], [name], (p, cli, ct) =>
            (p.GetValue(name), p.GetValue(all)) switch
            {
                ({ } one, false) => cli.UpdateAsync(one, p.GetValue(to)!, p.GetValue(engine), p.GetValue(dryRun), ct),
                (null, true) => new FleetUpdate(cli, CliContext.ResolveBinary(p.GetValue(to)!), p.GetValue(engine), p.GetValue(dryRun))
                    .RunAsync(p.GetValue(parallel), p.GetValue(maxFailures), ct),
                _ => NameOrAll(cli),
            });
    }

    private static Task<int> NameOrAll(CliContext cli)
    {
        cli.Terminal.Error(new ReportError("usage", "give the name of a VM, or --all", "see `cprsharp update --help`"));
        return Task.FromResult(ExitCodes.Usage);
    }

    private static Command Rollback()
    {
        var name = Name();
        return Command("rollback", "Live-update the VM back to the QEMU that it had before its last update", [], [name], (p, cli, ct) =>
            cli.RollbackAsync(p.GetValue(name)!, ct));
    }

    private static Command Status()
    {
        var name = new Argument<string?>("NAME") { Description = "Name of the VM", Arity = ArgumentArity.ZeroOrOne };
        return Command("status", "Show what runs where: one VM in full, or all in a line each", [], [name], (p, cli, ct) => cli.StatusAsync(p.GetValue(name), ct));
    }

    private static Command List() => Command("list", "List the VMs, one in a line", [], [], (_, cli, ct) => cli.ListAsync(ct));

    private static Command History()
    {
        var name = Name();
        var report = new Option<string?>("--report") { Description = "Write a page for a web browser instead: each update's timeline", HelpName = "FILE.html" };
        return Command("history", "List the VM's updates: when, from, to, engine, outcome, pause", [report], [name], (p, cli, _) =>
            cli.HistoryAsync(p.GetValue(name)!, p.GetValue(report)));
    }

    private static Command Metrics()
    {
        var file = new Option<string?>("--textfile") { Description = "Write them there instead, in one go, for the node exporter's textfile collector", HelpName = "FILE.prom" };
        return Command("metrics", "Print numbers of all VMs in Prometheus' text format", [file], [], (p, cli, ct) => new MetricsCommand(cli).RunAsync(p.GetValue(file), ct));
    }

    private static Command Inventory()
    {
        var vm = new Argument<string>("NAME|QMP") { Description = "Name of a VM, or the path of any QEMU's QMP Unix socket" };
        return Command("inventory", "Say what the VM's passed-through devices can reach, and how sure that is; changes nothing", [], [vm], (p, cli, ct) =>
            new InventoryCommand(cli).RunAsync(p.GetValue(vm)!, ct));
    }

    private static Command LibvirtDomains()
    {
        var domain = new Argument<string>("DOMAIN|FILE") { Description = "Name of a domain, or a file with its XML" };
        var xml = new Option<bool>("--xml") { Description = "Print the changed XML and nothing else, for `virsh define`" };
        var check = Command("check", "Say what in a domain's XML stands in the way of its live update, and print the XML without it", [xml], [domain], (p, cli, ct) =>
            LibvirtCommands.CheckAsync(cli, p.GetValue(domain)!, p.GetValue(xml), ct));
        var running = new Argument<string>("DOMAIN") { Description = "Name of the domain" };
        var adopt = Command("adopt", "Say how a domain that runs on QEMU itself comes under a supervisor", [], [running], (p, cli, ct) =>
            LibvirtCommands.AdoptAsync(cli, p.GetValue(running)!, ct));
        var libvirt = new Command("libvirt", "Advice about libvirt's domains: check, adopt");
        libvirt.Subcommands.Add(check);
        libvirt.Subcommands.Add(adopt);
        return libvirt;
    }

    private static Command FaultPoints() => Command("fault-points", "List the points at which CPRSHARP_FAULT=POINT[:kill|error|hang] makes an update fail, to rehearse it", [], [], (_, cli, _) =>
    {
        cli.Print(new FaultPointsDocument(1, [.. FaultPoint.All]), ReportJson.Printed.FaultPointsDocument, d => cli.Terminal.Line(string.Join('\n', d.FaultPoints)));
        return Task.FromResult(ExitCodes.Done);
    });

    private static Command Reexec()
    {
        var name = Name();
        var to = new Option<string?>("--to") { Description = "The cprsharp that is to supervise (default: this one)", HelpName = "PROGRAM" };
        return Command("reexec", "Replace the VM's supervisor by another build of cprsharp; PID, connections and guest stay", [to], [name], (p, cli, ct) =>
            new ReexecCommand(cli).RunAsync(p.GetValue(name)!, p.GetValue(to), ct));
    }

    /// <summary>For another build that considers to be replaced by this one.</summary>
    private static Command SupervisorStates()
    {
        var command = Command(Replacement.ReplacementProbe.Command, "Say which supervisors' states this program can go on with", [], [], (_, cli, _) =>
        {
            Settings.Load().Dispose();
            cli.Terminal.Line(System.Text.Json.JsonSerializer.Serialize(Replacement.ReplacementOffer.Own, Replacement.SupervisorStateJson.Default.ReplacementOffer));
            return Task.FromResult(ExitCodes.Done);
        });
        command.Hidden = true;
        return command;
    }

    private static Argument<string> Name() => new("NAME") { Description = "Name of the VM" };

    private static Command Command(
        string name, string description, Option[] options, Argument[] arguments, Func<ParseResult, CliContext, CancellationToken, Task<int>> action)
    {
        var command = new Command(name, description);
        foreach (var option in options)
            command.Options.Add(option);
        foreach (var argument in arguments)
            command.Arguments.Add(argument);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var terminal = new Terminal();
            var json = parsed.GetValue(Json);
            try
            {
                return await action(parsed, new CliContext(StateDirectory.Resolve(parsed.GetValue(StateDir)), () => StateDirectory.Others(parsed.GetValue(StateDir)), json, terminal), cancellationToken);
            }
            catch (UpdateException e)
            {
                return Fail(terminal, json, new ReportError(e.Code, e.Message, e.Fix), e.LeavesStateUnknown ? ExitCodes.StateUnknown : ExitCodes.Failed);
            }
            catch (ArgumentException e)
            {
                return Fail(terminal, json, new ReportError("usage", e.Message, $"see `cprsharp {name} --help`"), ExitCodes.Usage);
            }
            catch (OptionsValidationException e)
            {
                return Fail(terminal, json, new ReportError("configuration", string.Join("; ", e.Failures), $"correct {Settings.File} or the {Settings.EnvironmentPrefix}… variables"), ExitCodes.BadConfiguration);
            }
            catch (OperationCanceledException)
            {
                return Fail(terminal, json, new ReportError("interrupted", "interrupted", ""), ExitCodes.Failed);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or Qmp.QmpException)
            {
                return Fail(terminal, json, new ReportError("failed", e.Message, ""), ExitCodes.Failed);
            }
        });
        return command;
    }

    private static int Fail(Terminal terminal, bool json, ReportError error, int exitCode)
    {
        if (json)
            terminal.Line(System.Text.Json.JsonSerializer.Serialize(new ErrorDocument(1, error), ReportJson.Printed.ErrorDocument));
        terminal.Error(error);
        return exitCode;
    }
}
