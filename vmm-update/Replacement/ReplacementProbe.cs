using System.IO.Pipes;
using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Replacement;

/// <summary>Asks another build of this program, before anything is touched, whether it could go on with a supervisor's state.</summary>
internal static class ReplacementProbe
{
    /// <summary>The command that answers.</summary>
    public const string Command = "supervisor-state";

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <exception cref="UpdateException">A refusal: it is not there, does not start, is another program, or does not read our state.</exception>
    public static async Task<ReplacementOffer> AskAsync(string program, CancellationToken cancellationToken)
    {
        if (!File.Exists(program))
            throw Refused("program-missing", $"{program} does not exist or is not a file", "give the path of an installed cprsharp");
        var (answer, status) = await RunAsync(program, cancellationToken);
        if (status.Code == Cli.ExitCodes.BadConfiguration)
            throw Refused("configuration", $"{program} does not accept the settings of this host", $"`{program} {Command}` says which");
        ReplacementOffer? offer = null;
        try
        {
            offer = JsonSerializer.Deserialize(answer, SupervisorStateJson.Default.ReplacementOffer);
        }
        catch (JsonException)
        {
            // Said below.
        }

        if (status.Code != 0 || offer?.Program != ReplacementOffer.Name)
            throw Refused("program-not-cprsharp", $"{program} is no cprsharp that can take over: `{Command}` ended with {status}", "give the path of an installed cprsharp");
        if (SupervisorState.CurrentSchema < offer.Oldest || SupervisorState.CurrentSchema > offer.Newest || VmRecord.CurrentSchema > offer.Record)
        {
            throw Refused(
                "program-schema",
                $"{program} ({offer.Version}) reads supervisor states {offer.Oldest} to {offer.Newest} and VM records up to {offer.Record}; this supervisor has {SupervisorState.CurrentSchema} and {VmRecord.CurrentSchema}",
                "use a version between the two, or `cprsharp adopt` after ending this supervisor");
        }

        return offer;
    }

    private static async Task<(string Answer, ExitStatus Status)> RunAsync(string program, CancellationToken cancellationToken)
    {
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        await using var child = Start(program, pipe);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        using var reader = new StreamReader(pipe);
        try
        {
            var answer = await reader.ReadToEndAsync(deadline.Token);
            return (answer, await child.Exited.WaitAsync(deadline.Token));
        }
        catch (OperationCanceledException)
        {
            child.Signal(Qemu.Signals.Kill);
            await child.Exited;
            throw Refused("program-not-cprsharp", $"{program} did not answer `{Command}` within {Deadline.TotalSeconds:0} s", "give the path of an installed cprsharp");
        }
    }

    private static ChildProcess Start(string program, AnonymousPipeServerStream pipe)
    {
        using var client = pipe.ClientSafePipeHandle; // which the stream itself does not close
        try
        {
            return ChildProcess.Start(new ChildProcessStart
            {
                Path = program,
                Arguments = [Command],
                StandardOutput = client,
                NewSession = true,
            });
        }
        catch (SyscallException e)
        {
            throw Refused("program-not-cprsharp", $"{program} cannot be started: {e.Message}", "give the path of an installed cprsharp");
        }
    }

    private static UpdateException Refused(string code, string message, string fix) => new(code, message, fix) { IsRefusal = true };
}
