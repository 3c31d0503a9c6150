using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>From a QEMU command line to a VM that this process supervises.</summary>
internal static class SupervisedStart
{
    /// <summary>Asks the binary what it is, and makes its command line an updatable VM's.</summary>
    /// <exception cref="CommandLineException">It cannot be run under supervision.</exception>
    public static async Task<(QemuBinary Facts, VmSpec Spec)> TranslateAsync(
        string binary, QemuCommandLine line, LaunchSettings settings, CancellationToken cancellationToken)
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
        var translation = Launch.Translate(line, facts.ToFacts(machine), settings);
        return (facts, translation.Spec!);
    }

    /// <summary>Starts the VM and supervises it until its guest ends.</summary>
    /// <returns>QEMU's own exit status.</returns>
    /// <exception cref="UpdateException">There is such a VM already, or it does not start.</exception>
    public static async Task<int> RunAsync(
        VmDirectory directory, QemuBinary facts, VmLife life, ServiceProvider services, Action ready, CancellationToken cancellationToken)
    {
        if (directory.Exists && !SupervisorLock.IsTaken(directory))
            RecordedVm.RequireGone(directory);
        directory.Create(SupervisorSettings.From(services).Security.GroupId());
        using var held = await SupervisorLock.TakeAsync(directory, cancellationToken);
        var loggers = services.GetRequiredService<ILoggerFactory>();
        using var scope = SupervisorLog.OfVm(loggers.CreateLogger("cprsharp"), directory.Name);
        VmSupervisor supervisor;
        try
        {
            supervisor = await VmSupervisor.StartAsync(directory, facts, life, loggers.CreateLogger("cprsharp"), cancellationToken);
        }
        catch (Exception e)
        {
            Directory.Delete(directory.Path, recursive: true);
            throw e is Qemu.VmmExitedException ended
                ? new UpdateException("start-failed", ended.Message, "QEMU said why; `run --print-command` shows its command line", ended)
                : e;
        }

        SupervisorLog.Started(loggers.CreateLogger("cprsharp"), directory.Name, supervisor.Record.Version, supervisor.Record.Pid, directory.QmpSocket);
        return await new SupervisorRun(directory, SupervisorSettings.From(services), loggers).ServeAsync(supervisor, held, ready);
    }
}
