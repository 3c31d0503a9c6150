using System.Globalization;
using System.IO.Pipes;
using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Starts this program once more, in a session of its own, as a VM's supervisor.</summary>
internal static class BackgroundSupervisor
{
    private const int ReadyDescriptor = 3;

    /// <summary>Returns when the supervisor serves.</summary>
    /// <exception cref="UpdateException">It could not start; carries its reason.</exception>
    public static async Task<int> StartAsync(VmDirectory directory, string[] arguments, CliContext cli, CancellationToken cancellationToken)
    {
        if (SupervisorLock.IsTaken(directory))
            throw new UpdateException("vm-exists", $"VM '{directory.Name}' already has a supervisor ({directory.Path})", "choose another name, or end that VM first");

        directory.Create();
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        using var log = LogFile.OpenAppend(directory.SupervisorLog);
        var (program, self) = SelfProgram.Command([arguments[0], "--ready-fd", ReadyDescriptor.ToString(CultureInfo.InvariantCulture), .. arguments[1..]]);
        await using var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = program,
            Arguments = self,
            Descriptors = [new InheritedDescriptor(pipe.ClientSafePipeHandle, ReadyDescriptor)],
            StandardOutput = log,
            StandardError = log,
            NewSession = true,
        });
        pipe.DisposeLocalCopyOfClientHandle();
        using var reader = new StreamReader(pipe);
        var answer = await reader.ReadToEndAsync(cancellationToken);
        if (answer.Length > 0)
        {
            var error = JsonSerializer.Deserialize(answer, ReportJson.Default.ErrorDocument)!.Error;
            throw new UpdateException(error.Code, error.Message, error.Fix) { LeavesStateUnknown = error.Code == Recovery.GuestLost };
        }

        if (!File.Exists(directory.Record))
        {
            var status = await child.Exited.WaitAsync(cancellationToken);
            throw new UpdateException("supervisor-ended", $"the supervisor of '{directory.Name}' ended while it started: {status}", $"see {directory.SupervisorLog}");
        }

        cli.Terminal.Progress($"{directory.Name}: supervisor pid {child.Pid}, QMP on {directory.QmpSocket}");
        return ExitCodes.Done;
    }
}
