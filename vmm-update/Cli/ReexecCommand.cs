using System.Text.Json.Nodes;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp reexec</c>: another build of this program takes the place of a VM's supervisor.</summary>
internal sealed class ReexecCommand(CliContext cli)
{
    public async Task<int> RunAsync(string name, string? to, CancellationToken cancellationToken)
    {
        var program = ProgramOf(to);
        var directory = new VmDirectory(cli.StateDirectory, name);
        await using var vm = await VmConnection.OpenAsync(directory, cancellationToken);
        try
        {
            var report = await vm.AskAsync(QmpNames.Reexec, new JsonObject { ["to"] = program }, ReportJson.Default.ReexecReport, CancellationToken.None);
            cli.Print(report, ReportJson.Printed.ReexecReport, cli.Terminal.Reexec);
            return report switch
            {
                { Outcome: ReexecReport.Replaced } => ExitCodes.Done,
                { Outcome: ReexecReport.Refused } => ExitCodes.Refused,
                { Error.Code: ReportError.Busy } => ExitCodes.Busy,
                _ => ExitCodes.Failed,
            };
        }
        catch (Qmp.QmpConnectionException e)
        {
            var back = await LostSupervisor.IsBackAsync(directory);
            throw new UpdateException(
                "supervisor-lost",
                $"{program} took the supervisor's place and ended: {e.Message}. The guest was not touched; {(back ? "the guardian has taken the VM over, with the program from before" : "nobody supervises it now")}",
                back ? $"see {directory.SupervisorLog}" : $"`cprsharp adopt {name}` takes it over again", e);
        }
    }

    private static string ProgramOf(string? to)
    {
        if (to is not null)
            return CliContext.ResolveBinary(to);
        var (program, arguments) = SelfProgram.Command();
        return arguments.Length == 0
            ? program
            : throw new ArgumentException("this cprsharp is run by `dotnet` and has no program file of its own: give --to", nameof(to));
    }
}
