using System.Net.Sockets;
using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The life of a supervisor process, from the VM's start or take-over until the guest ends.</summary>
internal sealed class SupervisorRun(VmDirectory directory, SupervisorSettings settings, ILoggerFactory loggers)
{
    private readonly ILogger _logger = loggers.CreateLogger("cprsharp");

    /// <summary>Serves the VM until the guest ends.</summary>
    /// <param name="supervisor">The VM; disposed at the end.</param>
    /// <param name="held">Says that we are its supervisor; stays the caller's.</param>
    /// <param name="ready">Called when clients can connect.</param>
    /// <returns>The exit code: QEMU's own, 128 + signal if a signal ended it.</returns>
    public async Task<int> ServeAsync(VmSupervisor supervisor, SupervisorLock held, Action ready)
    {
        await using var owned = supervisor;
        var spec = supervisor.Record.Spec;
        using var updates = new UpdateService(supervisor, settings.Update, new BinaryPolicy(settings.Security), loggers.CreateLogger<UpdateOrchestrator>());
        await using var front = new QmpFront(supervisor, updates, new ClientPolicy(settings.Security), _logger);
        front.Listen(UnixSocket.Listen(directory.QmpSocket, 16, UnixFileMode.UserRead | UnixFileMode.UserWrite));
        if (settings.Security.GroupId() is { } group)
            directory.OpenQmpSocket(group);
        foreach (var socket in spec.ClientSockets.Where(s => s.Listen && (supervisor.StartedHere || s.Address is not DescriptorAddress)))
            front.Listen(Listener(supervisor, socket.Address));
        using var signals = new EndingSignals();
        signals.Set(() => EndAsync(supervisor, updates));
        if (spec.PidFile is { } pidFile)
            await File.WriteAllTextAsync(pidFile, $"{Environment.ProcessId}\n");
        await using var guardian = settings.Update.Guardian && !supervisor.Record.EndsWithSupervisor ? Guardian.Start(directory, supervisor.Consoles.Unrepeatable, _logger) : null;
        front.Reexec = new SupervisorReplacement(supervisor, updates, front, held, guardian, new BinaryPolicy(settings.Security), _logger).RunAsync;
        ready();
        return await ToTheEndAsync(supervisor, updates);
    }

    /// <summary>Goes on with a VM that another build of this program has served in our process, until the guest ends.</summary>
    /// <param name="supervisor">The VM; disposed at the end.</param>
    /// <param name="state">What was handed on.</param>
    /// <param name="held">Says that we are its supervisor; stays the caller's.</param>
    /// <param name="signals">Those that may have come meanwhile.</param>
    /// <returns>As <see cref="ServeAsync"/>.</returns>
    public async Task<int> ResumeAsync(VmSupervisor supervisor, SupervisorState state, SupervisorLock held, EndingSignals signals)
    {
        await using var owned = supervisor;
        using var updates = new UpdateService(supervisor, settings.Update, new BinaryPolicy(settings.Security), loggers.CreateLogger<UpdateOrchestrator>());
        await using var front = new QmpFront(supervisor, updates, new ClientPolicy(settings.Security), _logger);

        // The former one, which would bring the former program back, stays until there is another.
        await using var guardian = settings.Update.Guardian ? Guardian.Start(directory, supervisor.Consoles.Unrepeatable, _logger) : null;
        front.Reexec = new SupervisorReplacement(supervisor, updates, front, held, guardian, new BinaryPolicy(settings.Security), _logger).RunAsync;
        var to = ProgramIdentity.Own with { Binary = state.To };
        var unserved = Math.Round(TimeProvider.System.GetElapsedTime(state.PausedAt).TotalMilliseconds, 3);
        var report = new ReexecReport(1, directory.Name, ReexecReport.Replaced, Environment.ProcessId, state.From, to, unserved, null);
        foreach (var client in state.Clients)
            front.Restore(client, () => Qmp.QmpReply.Success(JsonSerializer.SerializeToElement(report, ReportJson.Default.ReexecReport)));
        supervisor.Current.Qmp.Start();
        foreach (var listener in state.Listeners)
            front.Listen(KeptDescriptors.TakeSocket(listener));
        ProgramReplacement.Arrived();
        SupervisorLog.Replaced(_logger, state.From.Version, state.From.Binary, to.Version, to.Binary, unserved);
        if (state.Guardian is { } former)
            await Guardian.DismissAsync(former);
        signals.Set(() => EndAsync(supervisor, updates));
        return await ToTheEndAsync(supervisor, updates);
    }

    private async Task<int> ToTheEndAsync(VmSupervisor supervisor, UpdateService updates)
    {
        var spec = supervisor.Record.Spec;
        var tapNames = supervisor.TapNames;
        using var systemd = SystemdNotification.FromEnvironment();
        systemd?.Ready(supervisor.Record.StatusLine);
        foreach (var (name, descriptor) in supervisor.Consoles.Unrepeatable)
            systemd?.Store(name, descriptor);
        updates.Progress += (phase, _) => systemd?.Status(phase is { } p ? $"{supervisor.Record.StatusLine}; update: {p.ToString().ToLowerInvariant()}" : supervisor.Record.StatusLine);
        var status = await GuestEndAsync(supervisor, updates);
        systemd?.Stopping();
        SupervisorLog.Ended(_logger, directory.Name, status.ToString());
        TapOpener.TakeDown(spec, tapNames);
        RemovePaths(spec);
        supervisor.RemoveDirectory();
        return status.Code ?? 128 + status.Signal ?? ExitStatusUnknown;
    }

    /// <summary>A VM that was adopted, or whose supervisor was lost, has the socket already; a VMM that is busy with us accepts nobody on it.</summary>
    private static Socket Listener(VmSupervisor supervisor, EndpointAddress address) =>
        (supervisor.Record.Adopted ? ListeningSockets.Find(supervisor.Current.PidFd, address) : null) ?? HeldDescriptors.Listen(address);

    /// <summary>What a shell reports for a process whose end nobody could observe.</summary>
    private const int ExitStatusUnknown = 0;

    private static async Task<ExitStatus> GuestEndAsync(VmSupervisor supervisor, UpdateService updates)
    {
        while (true)
        {
            var vmm = supervisor.Current;
            var status = await vmm.Exited;
            await updates.WhenIdleAsync();
            if (vmm == supervisor.Current)
                return status;
        }
    }

    /// <summary>SIGTERM, SIGINT and SIGHUP end the VM, as they end QEMU.</summary>
    private static async Task EndAsync(VmSupervisor supervisor, UpdateService updates)
    {
        // A guest in transit has two VMMs: wait until it has one again.
        updates.Cancel();
        await updates.WhenIdleAsync();
        if (!supervisor.Current.Exited.IsCompleted)
            supervisor.Current.PidFd.Signal(Signals.Terminate);
    }

    private static void RemovePaths(VmSpec spec)
    {
        foreach (var path in spec.ClientSockets.Where(s => s.Listen).Select(s => s.Address)
            .Concat(spec.Descriptors.OfType<ListenerDescriptor>().Select(l => l.Address))
            .OfType<UnixAddress>().Where(u => !u.Abstract).Select(u => u.Path))
            File.Delete(path);
        if (spec.PidFile is { } pidFile)
            File.Delete(pidFile);
    }
}
