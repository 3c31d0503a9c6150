using System.Net.Sockets;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Takes over a QEMU that was started by somebody else. It gets what QEMU itself can do for it; <c>check</c> says what it misses.</summary>
internal static class Adoption
{
    private static readonly TimeSpan GreetingDeadline = TimeSpan.FromSeconds(5);

    /// <exception cref="UpdateException">It cannot be reached, or its command line cannot be read.</exception>
    public static async Task<VmSupervisor> AdoptAsync(VmDirectory directory, string qmpPath, uint? group, ILogger logger, CancellationToken cancellationToken)
    {
        if (File.Exists(directory.Record))
        {
            RecordedVm.RequireGone(directory);
            directory.Create(group);
        }

        var (qmp, pidFd) = await ConnectAsync(qmpPath, cancellationToken);
        try
        {
            var binary = ProcFs.ExecutablePath(pidFd.Pid)
                ?? throw new UpdateException("adopt", $"the executable of pid {pidFd.Pid} cannot be read", "run as the user of that QEMU, or as root");
            var workingDirectory = ProcFs.Cwd(pidFd.Pid);
            var line = QemuCommandLine.Parse(ProcFs.CommandLine(pidFd.Pid)[1..]);
            var vmm = Vmm.FromForeign(1, binary, qmpPath, pidFd, qmp, directory.VmmLog(1));
            var machine = await VmInspector.ReadMachineTypeAsync(vmm, cancellationToken);
            var facts = await BinaryProbe.ProbeAsync(binary, _ => machine, cancellationToken);
            var settings = HostFacts.LaunchSettings() with { Running = true };
            var spec = Launch.Translate(line, facts.ToFacts(machine), settings).Spec
                ?? throw new UpdateException("adopt", $"the command line of pid {pidFd.Pid} starts no VM", "give the QMP socket of a QEMU that runs a guest");
            var record = new VmRecord
            {
                Name = directory.Name,
                Spec = spec,
                Binary = binary,
                Version = vmm.Version.ToString(),
                Generation = 1,
                Pid = pidFd.Pid,
                StartTicks = ProcFs.StartTimeTicks(pidFd.Pid),
                QmpPath = qmpPath,
                SupervisorPid = Environment.ProcessId,
                Adopted = true,
                Detached = true,
                WorkingDirectory = workingDirectory,
            };
            var supervisor = VmSupervisor.TakeOver(directory, record, HeldDescriptors.TakeListeners(spec, pidFd), StoredDescriptors.None, vmm, logger);
            supervisor.SaveRecord();
            return supervisor;
        }
        catch (CommandLineException e)
        {
            throw new UpdateException("command-line", e.Message, e.Fix, e);
        }
        catch
        {
            // The VM is left as it was found: only the connection to it ends.
            await qmp.DisposeAsync();
            pidFd.Dispose();
            throw;
        }
    }

    /// <summary>Connects to a QEMU's own monitor.</summary>
    /// <exception cref="UpdateException">Nothing answers there.</exception>
    public static async Task<(QmpClient Qmp, PidFd PidFd)> ConnectAsync(string qmpPath, CancellationToken cancellationToken)
    {
        Socket socket;
        PidFd pidFd;
        try
        {
            socket = UnixSocket.Connect(qmpPath);
            using var peer = new DescriptorSocket(socket, ownsSocket: false);
            pidFd = peer.OpenPeerPidFd();
        }
        catch (IOException e)
        {
            throw new UpdateException("qmp-unreachable", $"nothing answers on {qmpPath}: {e.Message}", "give the path of the QMP Unix socket of a running QEMU", e);
        }

        var qmp = new QmpClient();
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(GreetingDeadline);
        try
        {
            await qmp.ConnectAsync(socket, deadline.Token);
            return (qmp, pidFd);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException && !cancellationToken.IsCancellationRequested)
        {
            await qmp.DisposeAsync();
            pidFd.Dispose();
            throw new UpdateException(
                "qmp-busy", $"{qmpPath} did not greet within {GreetingDeadline.TotalSeconds:0} s: QEMU serves one client per socket",
                "disconnect the other client, or give QEMU a QMP socket of its own for this", e);
        }
    }
}
