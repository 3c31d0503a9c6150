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
                {
                    await AwaitSupervisorAsync(directory, cancellationToken);
                    return ExitCodes.Done;
                }

                string[] socket = qmp is null ? [] : ["--qmp", Path.GetFullPath(qmp)];
                return await BackgroundSupervisor.StartAsync(directory, ["adopt", name, .. socket, "--state-dir", cli.StateDirectory], cli, [], cancellationToken);
            }

            return await SuperviseAsync(directory, qmp, services, () => ready?.Ready(), cancellationToken);
        }
        catch (Exception e)
        {
            ready?.Failed(e);
            throw;
        }
    }

    /// <summary>For a service that starts: goes on with a guest that runs already, or leaves it to its supervisor and tells systemd of that.</summary>
    /// <returns>An exit code; null when no guest runs.</returns>
    public async Task<int?> ContinueAsync(VmDirectory directory, ServiceProvider services, Action ready, CancellationToken cancellationToken)
    {
        while (RecordedVm.Runs(directory))
        {
            try
            {
                if (!SupervisorLock.IsTaken(directory))
                    return await SuperviseAsync(directory, null, services, ready, cancellationToken);
                var pid = await AwaitSupervisorAsync(directory, cancellationToken);
                using var systemd = SystemdNotification.FromEnvironment();
                systemd?.HandOver(pid, VmFiles.ReadRecord(directory)?.StatusLine ?? "");
                return ExitCodes.Done;
            }
            catch (UpdateException e) when (e.Code is SupervisorLock.Taken or VmConnection.NoSupervisor)
            {
                // The guardian was faster, or its end was.
            }
        }

        return null;
    }

    private static async Task<int> SuperviseAsync(VmDirectory directory, string? qmp, ServiceProvider services, Action ready, CancellationToken cancellationToken)
    {
        var settings = SupervisorSettings.From(services);
        directory.Create(settings.Security.GroupId());
        using var held = await SupervisorLock.TakeAsync(directory, cancellationToken);
        var loggers = services.GetRequiredService<ILoggerFactory>();
        var logger = loggers.CreateLogger("cprsharp");
        using var scope = SupervisorLog.OfVm(logger, directory.Name);
        using var stored = StoredDescriptors.FromEnvironment();
        var supervisor = qmp is null
            ? await Recovery.TakeOverAsync(directory, stored, logger, cancellationToken)
            : await Adoption.AdoptAsync(directory, qmp, settings.Security.GroupId(), logger, cancellationToken);
        SupervisorLog.TakenOver(logger, directory.Name, supervisor.Record.Version, supervisor.Record.Pid, directory.QmpSocket);
        return await new SupervisorRun(directory, settings, loggers).ServeAsync(supervisor, held, ready);
    }

    /// <summary>What was asked for is so, or is about to be: a guardian may just be taking the VM over.</summary>
    /// <returns>The supervisor's process.</returns>
    private async Task<int> AwaitSupervisorAsync(VmDirectory directory, CancellationToken cancellationToken)
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
                return vm.Supervisor;
            }
            catch (UpdateException) when (SupervisorLock.IsTaken(directory))
            {
                await retry.WaitForNextTickAsync(deadline.Token);
            }
        }
    }
}
