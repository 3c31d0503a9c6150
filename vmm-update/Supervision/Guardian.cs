using System.IO.Pipes;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Hosting;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Waits beside a supervisor and takes the VM over when it dies, so that a guest in transit is not left paused.</summary>
/// <remarks>
/// A shell that reads from a pipe which only the supervisor holds: it costs a megabyte and no start-up time. A line says that the guest
/// has ended; an end without one, however the supervisor ended, makes the shell become <c>cprsharp adopt</c>.
/// </remarks>
internal sealed class Guardian : IAsyncDisposable
{
    private const string Script = "read -r ended && exit 0; exec \"$@\"";

    private readonly AnonymousPipeServerStream _pipe;
    private readonly ChildProcess _shell;

    private Guardian(AnonymousPipeServerStream pipe, ChildProcess shell)
    {
        _pipe = pipe;
        _shell = shell;
    }

    public static Guardian Start(VmDirectory directory)
    {
        var stateDirectory = Path.GetDirectoryName(directory.Path)!;
        var (program, arguments) = SelfProgram.Command("adopt", directory.Name, "--foreground", "--state-dir", stateDirectory);
        var pipe = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None);
        using var log = LogFile.OpenAppend(directory.SupervisorLog);
        var shell = ChildProcess.Start(new ChildProcessStart
        {
            Path = "/bin/sh",
            Arguments = ["-c", Script, "cprsharp-guardian", program, .. arguments],
            StandardInput = pipe.ClientSafePipeHandle,
            StandardOutput = log,
            StandardError = log,
            NewSession = true,
        });
        pipe.DisposeLocalCopyOfClientHandle();
        return new Guardian(pipe, shell);
    }

    /// <summary>The guest has ended: there is nothing to take over.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_shell.Exited.IsCompleted)
        {
            await _pipe.WriteAsync("ended\n"u8.ToArray());
            await _shell.Exited;
        }

        await _pipe.DisposeAsync();
        await _shell.DisposeAsync();
    }
}
