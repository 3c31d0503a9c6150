using System.IO.Pipes;

namespace CprSharp.Memfd.Tests;

/// <summary>A child that a failing test does not leave behind.</summary>
internal sealed class RunningChild(ChildProcessStart start) : IAsyncDisposable
{
    private AnonymousPipeServerStream? _input;

    internal ChildProcess Process { get; } = ChildProcess.Start(start);

    /// <summary>The first line that it wrote, when started with <see cref="StartAndReadLineAsync"/>.</summary>
    internal string Line { get; private set; } = "";

    /// <summary>
    /// Starts a child that writes a line and then reads from its standard input, where nothing comes. The line proves that its
    /// exec is over: posix_spawn(3) returns while the kernel is still filling in the command line, the environment and the name.
    /// </summary>
    internal static async Task<RunningChild> StartAndReadLineAsync(ChildProcessStart start, CancellationToken ct)
    {
        var input = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None);
        await using var output = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        var child = new RunningChild(start with { StandardInput = input.ClientSafePipeHandle, StandardOutput = output.ClientSafePipeHandle });
        child._input = input;
        output.DisposeLocalCopyOfClientHandle();
        using var reader = new StreamReader(output);
        child.Line = await reader.ReadLineAsync(ct) ?? "";
        return child;
    }

    /// <summary>
    /// Starts a shell that opens nothing any more: a program that has only just been started is still loading its libraries, each
    /// through a descriptor.
    /// </summary>
    internal static async Task<RunningChild> StartAtRestAsync(ChildProcessStart start, CancellationToken ct)
    {
        await using var output = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.None);
        var child = new RunningChild(start with { Arguments = ["-c", "echo; kill -STOP $$"], StandardOutput = output.ClientSafePipeHandle });
        output.DisposeLocalCopyOfClientHandle();
        using var reader = new StreamReader(output);
        await reader.ReadLineAsync(ct);
        return child;
    }

    public async ValueTask DisposeAsync()
    {
        if (!Process.PidFd.HasExited)
            Process.Signal(Children.SIGKILL);
        await Process.Exited;
        await Process.DisposeAsync();
        if (_input is not null)
            await _input.DisposeAsync();
    }
}
