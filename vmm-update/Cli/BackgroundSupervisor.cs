using System.Globalization;
using System.IO.Pipes;
using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Cli;

/// <summary>Starts this program once more, in a session of its own, as a VM's supervisor.</summary>
internal static class BackgroundSupervisor
{
    /// <summary>Returns when the supervisor serves.</summary>
    /// <param name="directory">The VM's.</param>
    /// <param name="arguments">The command that it runs, and its arguments.</param>
    /// <param name="cli">Whose output is used.</param>
    /// <param name="passed">Numbers of descriptors that its command line names; it gets those that are open here.</param>
    /// <param name="cancellationToken">Ends the waiting.</param>
    /// <exception cref="UpdateException">It could not start; carries its reason.</exception>
    public static async Task<int> StartAsync(VmDirectory directory, string[] arguments, CliContext cli, IReadOnlyCollection<int> passed, CancellationToken cancellationToken)
    {
        if (SupervisorLock.IsTaken(directory))
            throw new UpdateException("vm-exists", $"VM '{directory.Name}' already has a supervisor ({directory.Path})", "choose another name, or end that VM first");

        directory.Create();
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        var readyNumber = Enumerable.Range(3, int.MaxValue - 3).First(n => !passed.Contains(n));
        using var log = LogFile.OpenAppend(directory.SupervisorLog);
        var (program, self) = SelfProgram.Command([arguments[0], "--ready-fd", readyNumber.ToString(CultureInfo.InvariantCulture), .. arguments[1..]]);
        await using var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = program,
            Arguments = self,
            Descriptors = [new InheritedDescriptor(pipe.ClientSafePipeHandle, readyNumber), .. Inherited(passed)],
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
    /// <summary>What the runtime of this process has opened closes on exec, what its caller has passed does not.</summary>
    private static IEnumerable<InheritedDescriptor> Inherited(IReadOnlyCollection<int> numbers) =>
        ProcFs.Descriptors(Environment.ProcessId)
            .Where(d => d.Number > 2 && numbers.Contains(d.Number) && !d.Info.CloseOnExec)
            .Select(d => new InheritedDescriptor(new SafeFileHandle(d.Number, ownsHandle: false), d.Number));
}
