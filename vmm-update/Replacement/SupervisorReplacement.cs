using System.Collections;
using System.Diagnostics;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>Replaces the supervisor's program by another build of it, in the same process and with everything that is open.</summary>
/// <remarks>
/// What was read is answered first; what comes then waits in the kernel. So the state is small: connections, and the beginnings of
/// messages. QEMU stays a child of this process, whose PID does not change, and its events wait in their socket.
/// <para>
/// An exec that fails leaves everything as it was. A program that starts and then fails ends the process, and so do SIGALRM's 20 seconds one
/// that hangs: the guardian, which outlives both, takes the VM over with the program from before. The guest does not notice; QMP and
/// console clients are disconnected then.
/// </para>
/// </remarks>
internal sealed class SupervisorReplacement(
    VmSupervisor supervisor, UpdateService updates, QmpFront front, SupervisorLock held, Guardian? guardian, BinaryPolicy policy, ILogger logger)
{
    /// <summary>How long commands under way may take to be answered.</summary>
    private static readonly TimeSpan DrainDeadline = TimeSpan.FromSeconds(20);

    /// <summary>How long the new program may take to serve.</summary>
    private static readonly TimeSpan ArrivalDeadline = TimeSpan.FromSeconds(20);

    /// <summary>Becomes the other program, which answers; returns only when that could not be done.</summary>
    /// <param name="program">Its path.</param>
    /// <param name="command">The command that asks for it.</param>
    public async Task<ReexecReport> RunAsync(string program, QmpServerCommand command)
    {
        var offered = new ProgramIdentity("", program);
        try
        {
            if (supervisor.Record.EndsWithSupervisor)
            {
                throw new UpdateException(
                    "ends-with-supervisor", "the VMM of a libvirt domain ends with the thread that started it (PR_SET_PDEATHSIG), and an exec ends all threads",
                    "leave this supervisor until the domain is started again; the VMM under it can be updated")
                {
                    IsRefusal = true,
                };
            }

            if (program != Environment.ProcessPath)
                policy.Open(program)?.Dispose();
            var offer = await ReplacementProbe.AskAsync(program, CancellationToken.None);
            offered = offered with { Version = offer.Version };
            using var reservation = updates.TryReserve()
                ?? throw new UpdateException(ReportError.Busy, "an update of this VM is under way", $"wait for it; see `cprsharp status {supervisor.Directory.Name}`");
            var pausedAt = Stopwatch.GetTimestamp();
            try
            {
                await QuiesceAsync(command);
                Exec(program, command, pausedAt);
            }
            finally
            {
                supervisor.Current.Qmp.Continue();
                supervisor.Consoles.Thaw();
                front.Continue();
            }

            throw new InvalidOperationException("an exec that succeeds does not return");
        }
        catch (Exception e) when (e is UpdateException or IOException or OperationCanceledException or InvalidOperationException)
        {
            var error = e is UpdateException { Code: var code, Fix: var fix }
                ? new ReportError(code, e.Message, fix)
                : new ReportError("reexec-failed", $"the supervisor could not be replaced and goes on as it was: {e.Message}", "try again");
            SupervisorLog.NotReplaced(logger, program, error.Message);
            return new ReexecReport(
                1, supervisor.Directory.Name, e is UpdateException { IsRefusal: true } ? ReexecReport.Refused : ReexecReport.Failed,
                Environment.ProcessId, ProgramIdentity.Own, offered, null, error);
        }
    }

    private async Task QuiesceAsync(QmpServerCommand command)
    {
        using var deadline = new CancellationTokenSource(DrainDeadline);
        try
        {
            await front.PauseAsync(command, deadline.Token);
            await supervisor.Consoles.FreezeAsync().WaitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            throw new UpdateException(ReportError.Busy, $"commands of clients were not answered within {DrainDeadline.TotalSeconds:0} s", "try again when the VMM answers");
        }

        if (!await supervisor.Current.Qmp.PauseAsync())
            throw new UpdateException(ReportError.Busy, "a command is under way at the VMM, or there is no connection to it", "try again");
        await front.PauseWritingAsync();
    }

    private void Exec(string program, QmpServerCommand command, long pausedAt)
    {
        using var kept = new KeptDescriptors();
        var (listeners, clients) = front.Save(command, kept);
        var state = new SupervisorState
        {
            StateDirectory = Path.GetDirectoryName(supervisor.Directory.Path)!,
            Record = supervisor.Record,
            Vmm = supervisor.Current.Save(kept),
            Held = supervisor.SaveHeld(kept),
            Consoles = supervisor.Consoles.Save(kept),
            Listeners = listeners,
            Clients = clients,
            Lock = held.Save(kept),
            Guardian = guardian?.Save(kept),
            From = ProgramIdentity.Own,
            To = program,
            PausedAt = pausedAt,
        };
        using var memory = StateMemory.Write(state);
        var environment = Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
            .ToDictionary(v => (string)v.Key, v => (string?)v.Value ?? "", StringComparer.Ordinal);
        environment[StateMemory.Variable] = $"{kept.Keep(memory)}";

        // Somebody who has already seen the VMM's end has reaped it: the next program could not.
        if (supervisor.Current.Exited.IsCompleted)
            throw new UpdateException("guest-gone", "the VMM has ended", "");
        string[] arguments = [program, .. Environment.GetCommandLineArgs()[1..]];
        ProgramReplacement.Exec(program, arguments, environment, kept.Numbers, ArrivalDeadline);
    }
}
