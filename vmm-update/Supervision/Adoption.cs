using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Takes over a QEMU that was started by somebody else. It gets what QEMU itself can do for it; <c>check</c> says what it misses.</summary>
internal static class Adoption
{
    public static async Task<VmSupervisor> AdoptAsync(VmDirectory directory, string qmpPath, CancellationToken cancellationToken)
    {
        if (File.Exists(directory.Record))
            RecordedVm.RequireGone(directory);
        directory.Create();
        var socket = UnixSocket.Connect(qmpPath);
        PidFd pidFd;
        using (var peer = new DescriptorSocket(socket, ownsSocket: false))
            pidFd = peer.OpenPeerPidFd();
        var qmp = new QmpClient();
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        soon.CancelAfter(TimeSpan.FromSeconds(5));
        try
        {
            await qmp.ConnectAsync(socket, soon.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UpdateException("qmp-busy", $"{qmpPath} does not greet within 5 s: QEMU serves one client at a time", "disconnect the other client, or give QEMU a second QMP socket");
        }

        var binary = ProcFs.ExecutablePath(pidFd.Pid)
            ?? throw new UpdateException("adopt", $"the executable of pid {pidFd.Pid} cannot be read", "run as the user of that QEMU or as root");
        var vmm = Vmm.FromForeign(1, binary, qmpPath, pidFd, qmp, directory.VmmLog(1));
        _ = CommandLineOf(pidFd.Pid);
        throw new UpdateException("adopt", "not yet", "");
    }

    private static QemuCommandLine CommandLineOf(int pid) => QemuCommandLine.Parse(ProcFs.CommandLine(pid)[1..]);
}
