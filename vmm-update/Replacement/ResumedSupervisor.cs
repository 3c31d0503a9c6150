using CprSharp.Memfd;
using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>This program in the place of another build of it, which was the supervisor until now.</summary>
internal static class ResumedSupervisor
{
    /// <param name="descriptor">The state.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(int descriptor)
    {
        // First of all, and on the main thread: signals wait for it.
        using var signals = new EndingSignals();
        ProgramReplacement.AcceptSignals();
        try
        {
            var state = StateMemory.Read(descriptor);
            using var held = SupervisorLock.Restore(state.Lock);
            await using var services = Settings.Load();
            var loggers = services.GetRequiredService<ILoggerFactory>();
            var logger = loggers.CreateLogger("cprsharp");
            var directory = new VmDirectory(state.StateDirectory, state.Record.Name);
            using var scope = SupervisorLog.OfVm(logger, directory.Name);
            var supervisor = VmSupervisor.Restore(directory, state, logger);
            return await new SupervisorRun(directory, SupervisorSettings.From(services), loggers)
                .ResumeAsync(supervisor, state, held, signals);
        }
        catch (Exception e) when (e is UpdateException or IOException or ArgumentException or OptionsValidationException)
        {
            // The guardian sees our end and takes over.
            new Terminal().Error(new ReportError("reexec", $"the supervisor cannot go on: {e.Message}", "`cprsharp adopt NAME` takes the VM over again"));
            return ExitCodes.Failed;
        }
    }
}
