using System.Net.Sockets;
using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The life of a supervisor process, from the VM's start or take-over until the guest ends.</summary>
internal sealed class SupervisorRun(VmDirectory directory, UpdateOptions options, ILoggerFactory loggers)
{
    private readonly ILogger _logger = loggers.CreateLogger("cprsharp");

    /// <summary>Serves the VM until the guest ends.</summary>
    /// <param name="supervisor">The VM; disposed at the end.</param>
    /// <param name="ready">Called when clients can connect.</param>
    /// <returns>The exit code: QEMU's own, 128 + signal if a signal ended it.</returns>
    public async Task<int> ServeAsync(VmSupervisor supervisor, Action ready)
    {
        await using var owned = supervisor;
        var spec = supervisor.Record.Spec;
        var tapNames = supervisor.TapNames;
        using var updates = new UpdateService(supervisor, options, loggers.CreateLogger<UpdateOrchestrator>());
        await using var front = new QmpFront(supervisor, updates, _logger);
        front.Listen(UnixSocket.Listen(directory.QmpSocket, 16, UnixFileMode.UserRead | UnixFileMode.UserWrite));
        foreach (var socket in spec.ClientSockets.Where(s => s.Listen && (supervisor.StartedHere || s.Address is not DescriptorAddress)))
            front.Listen(Listener(supervisor, socket.Address));
        using var signals = ForwardSignals(supervisor, updates);
        if (spec.PidFile is { } pidFile)
            await File.WriteAllTextAsync(pidFile, $"{Environment.ProcessId}\n");
        await using var guardian = options.Guardian && !supervisor.Record.EndsWithSupervisor ? Guardian.Start(directory, _logger) : null;
        ready();

        var status = await GuestEndAsync(supervisor, updates);
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

    private static SignalForwarder ForwardSignals(VmSupervisor supervisor, UpdateService updates) => new(async () =>
    {
        // A guest in transit has two VMMs: wait until it has one again.
        updates.Cancel();
        await updates.WhenIdleAsync();
        if (!supervisor.Current.Exited.IsCompleted)
            supervisor.Current.PidFd.Signal(Signals.Terminate);
    });

    private static void RemovePaths(VmSpec spec)
    {
        foreach (var path in spec.ClientSockets.Where(s => s.Listen).Select(s => s.Address)
            .Concat(spec.Descriptors.OfType<ListenerDescriptor>().Select(l => l.Address))
            .OfType<UnixAddress>().Where(u => !u.Abstract).Select(u => u.Path))
            File.Delete(path);
        if (spec.PidFile is { } pidFile)
            File.Delete(pidFile);
    }

    /// <summary>SIGTERM, SIGINT and SIGHUP end the VM, as they end QEMU.</summary>
    private sealed class SignalForwarder : IDisposable
    {
        private readonly List<PosixSignalRegistration> _registrations;

        public SignalForwarder(Func<Task> end) => _registrations =
        [
            .. new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP }.Select(signal => PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                _ = end();
            })),
        ];

        public void Dispose() => _registrations.ForEach(r => r.Dispose());
    }
}
