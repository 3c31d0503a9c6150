using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp adopt</c>: supervises a QEMU that this program did not start, or whose supervisor was lost.</summary>
internal sealed class AdoptCommand(CliContext cli)
{
    public async Task<int> RunAsync(string name, string? qmp, bool foreground, int? readyFd, CancellationToken cancellationToken)
    {
        VmDirectory.ValidateName(name);
        var directory = new VmDirectory(cli.StateDirectory, name);
        using var ready = ReadySignal.From(readyFd);
        try
        {
            await using var services = Settings.Load();
            if (!foreground && readyFd is null)
            {
                if (qmp is null && SupervisorLock.IsTaken(directory))
                    return await AlreadySupervisedAsync(directory, cancellationToken);
                string[] socket = qmp is null ? [] : ["--qmp", Path.GetFullPath(qmp)];
                return await BackgroundSupervisor.StartAsync(directory, ["adopt", name, .. socket, "--state-dir", cli.StateDirectory], cli, [], cancellationToken);
            }

            var settings = SupervisorSettings.From(services);
            directory.Create(settings.Security.GroupId());
            using var held = await SupervisorLock.TakeAsync(directory, cancellationToken);
            var loggers = services.GetRequiredService<ILoggerFactory>();
            var logger = loggers.CreateLogger("cprsharp");
            var supervisor = qmp is null
                ? await Recovery.TakeOverAsync(directory, logger, cancellationToken)
                : await Adoption.AdoptAsync(directory, qmp, settings.Security.GroupId(), logger, cancellationToken);
            SupervisorLog.TakenOver(logger, name, supervisor.Record.Version, supervisor.Record.Pid, directory.QmpSocket);
            return await new SupervisorRun(directory, settings, loggers)
                .ServeAsync(supervisor, held, () => ready?.Ready());
        }
        catch (Exception e)
        {
            ready?.Failed(e);
            throw;
        }
    }

    /// <summary>What was asked for is so, or is about to be: a guardian may just be taking the VM over.</summary>
    private async Task<int> AlreadySupervisedAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(TimeSpan.FromSeconds(20));
        using var retry = new PeriodicTimer(TimeSpan.FromMilliseconds(50));
        while (true)
        {
            try
            {
                await using var vm = await VmConnection.OpenAsync(directory, deadline.Token);
                cli.Terminal.Progress($"{directory.Name}: already supervised");
                return ExitCodes.Done;
            }
            catch (UpdateException) when (SupervisorLock.IsTaken(directory))
            {
                await retry.WaitForNextTickAsync(deadline.Token);
            }
        }
    }
}
