using CprSharp.Memfd;
using CprSharp.VmmUpdate.Metrics;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp metrics</c>: numbers of all VMs, for Prometheus.</summary>
internal sealed class MetricsCommand(CliContext cli)
{
    /// <summary>Readable by all: the collector is another user.</summary>
    private const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    public async Task<int> RunAsync(string? textFile, CancellationToken cancellationToken)
    {
        var vms = await Task.WhenAll(Hosting.StateDirectory.List(cli.StateDirectory).Select(d => MeasureAsync(d, cancellationToken)));
        var text = MetricsText.Write(VmMetrics.Of([.. vms.OfType<MeasuredVm>()]));
        if (textFile is null)
            await Console.Out.WriteAsync(text.AsMemory(), cancellationToken);
        else
            Write(Path.GetFullPath(textFile), text);
        return ExitCodes.Done;
    }

    /// <summary>Null when the VM has gone meanwhile.</summary>
    private static async Task<MeasuredVm?> MeasureAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        try
        {
            var status = await CliContext.StatusOfAsync(directory, cancellationToken);
            return new MeasuredVm(
                status, await UpdateHistory.ReadAsync(directory),
                status.Supervision == "supervised" ? Resident(status.SupervisorPid) : null, status.Supervision == "gone" ? null : Resident(status.Vmm.Pid));
        }
        catch (Exception e) when (e is IOException or Update.UpdateException && !directory.Exists)
        {
            return null;
        }
    }

    private static long? Resident(int pid)
    {
        try
        {
            return ProcFs.Status(pid).ResidentBytes;
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>The collector may read at any time: it finds the old text or the new one.</summary>
    private static void Write(string path, string text)
    {
        // The collector takes *.prom only.
        var temporary = $"{path}.{Environment.ProcessId}.new";
        try
        {
            File.WriteAllText(temporary, text);
            File.SetUnixFileMode(temporary, Mode);
            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }
}
