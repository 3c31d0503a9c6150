using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp run</c>: starts QEMU under a supervisor, here or in the background.</summary>
internal sealed class RunCommand(CliContext cli)
{
    public async Task<int> RunAsync(string name, string[] qemu, bool detach, bool print, int? readyFd, CancellationToken cancellationToken)
    {
        VmDirectory.ValidateName(name);
        var directory = new VmDirectory(cli.StateDirectory, name);
        using var ready = ReadySignal.From(readyFd);
        try
        {
            var binary = CliContext.ResolveBinary(qemu[0]);
            var line = QemuCommandLine.Parse(qemu[1..]);
            if (Launch.StartsNoGuest(line))
                return await PassThroughAsync(binary, qemu[1..]);

            await using var services = Settings.Load();
            var (facts, spec) = await TranslateAsync(binary, line, cancellationToken);
            if (print)
                return Print(binary, spec);
            if (detach || spec.Daemonize && readyFd is null)
                return await BackgroundSupervisor.StartAsync(directory, ["run", "--name", name, "--state-dir", cli.StateDirectory, "--", .. qemu], cli, cancellationToken);

            return await SuperviseAsync(directory, facts, spec, readyFd is not null, services, ready, cancellationToken);
        }
        catch (CommandLineException e)
        {
            var error = new UpdateException("command-line", e.Message, e.Fix, e);
            ready?.Failed(error);
            throw error;
        }
        catch (Exception e)
        {
            ready?.Failed(e);
            throw;
        }
    }

    private static async Task<(QemuBinary Facts, VmSpec Spec)> TranslateAsync(string binary, QemuCommandLine line, CancellationToken cancellationToken)
    {
        string? machine = null;
        var facts = await BinaryProbe.ProbeAsync(binary, machines =>
        {
            var known = new BinaryFacts
            {
                Version = new Version(0, 0, 0),
                MachineAliases = machines.Where(m => m.Alias is not null).ToDictionary(m => m.Alias!, m => m.Name, StringComparer.Ordinal),
                DefaultMachine = machines.FirstOrDefault(m => m.IsDefault)?.Name,
            };
            return machine = Launch.ResolveMachine(line, known);
        }, cancellationToken);
        var translation = Launch.Translate(line, facts.ToFacts(machine), HostFacts.LaunchSettings());
        return (facts, translation.Spec!);
    }

    private int Print(string binary, VmSpec spec)
    {
        cli.Terminal.Line(string.Join(" ", new[] { binary }.Concat(spec.RenderFirstStart()).Select(ShellText.Quote)));
        foreach (var change in spec.Changes)
            cli.Terminal.Line($"# {change}");
        return ExitCodes.Done;
    }

    private static async Task<int> SuperviseAsync(
        VmDirectory directory, QemuBinary facts, VmSpec spec, bool detached, ServiceProvider services, ReadySignal? ready, CancellationToken cancellationToken)
    {
        if (directory.Exists && !SupervisorLock.IsTaken(directory))
            RecordedVm.RequireGone(directory);
        directory.Create(SupervisorSettings.From(services).Security.GroupId());
        using var held = await SupervisorLock.TakeAsync(directory, cancellationToken);
        var loggers = services.GetRequiredService<ILoggerFactory>();
        VmSupervisor supervisor;
        try
        {
            supervisor = await VmSupervisor.StartAsync(directory, facts, spec, detached, loggers.CreateLogger("cprsharp"), cancellationToken);
        }
        catch (Exception e)
        {
            Directory.Delete(directory.Path, recursive: true);
            throw e is Qemu.VmmExitedException ended
                ? new UpdateException("start-failed", ended.Message, "QEMU said why; `run --print-command` shows its command line", ended)
                : e;
        }

        SupervisorLog.Started(loggers.CreateLogger("cprsharp"), directory.Name, supervisor.Record.Version, supervisor.Record.Pid, directory.QmpSocket);
        return await new SupervisorRun(directory, SupervisorSettings.From(services), loggers)
            .ServeAsync(supervisor, held, () => ready?.Ready());
    }

    /// <summary>A question to QEMU (help, version, a list) is QEMU's to answer.</summary>
    private static async Task<int> PassThroughAsync(string binary, string[] arguments)
    {
        await using var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = binary,
            Arguments = arguments,
            StandardInput = new SafeFileHandle(0, ownsHandle: false),
        });
        var status = await child.Exited;
        return status.Code ?? 128 + status.Signal ?? ExitCodes.Failed;
    }
}
