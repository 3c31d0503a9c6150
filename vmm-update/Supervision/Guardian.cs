using System.Globalization;
using System.IO.Pipes;
using System.Runtime.InteropServices;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Replacement;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Waits beside a supervisor and takes the VM over when it dies, so that a guest in transit is not left paused.</summary>
/// <remarks>
/// A shell that reads from a pipe which only the supervisor holds: it costs a megabyte and no start-up time. A line says that the guest
/// has ended; an end without one, however the supervisor ended, makes the shell become <c>cprsharp adopt</c>. Should the shell die first,
/// the supervisor starts another. It keeps descriptors for that <c>adopt</c>, and hands them on as systemd does: <see cref="StoredDescriptors"/>.
/// </remarks>
internal sealed class Guardian : IAsyncDisposable
{
    private const string Script = $"read -r ended && exit 0; export {StoredDescriptors.Process}=$$; exec \"$@\"";

    /// <summary>Where shells do not live, a new one every second is enough.</summary>
    private static readonly TimeSpan Pace = TimeSpan.FromSeconds(1);

    private readonly CancellationTokenSource _guestEnded = new();
    private readonly Task _watch;
    private volatile Shell _shell;

    private Guardian(Func<Shell> start, ILogger logger)
    {
        _shell = start();
        _watch = WatchAsync(start, logger);
    }

    /// <param name="directory">The VM's.</param>
    /// <param name="keep">What the next supervisor needs of this one; stays the caller's, open as long as the guardian.</param>
    /// <param name="logger">Hears of guardians that died.</param>
    public static Guardian Start(VmDirectory directory, IReadOnlyList<(string Name, SafeHandle Descriptor)> keep, ILogger logger) =>
        new(() => new Shell(directory, keep), logger);

    /// <summary>Ends the guardian of the program before this one in our process: it would bring that program back.</summary>
    public static async Task DismissAsync(GuardianState former)
    {
        await using var shell = new Shell(former);
    }

    /// <summary>For the program after this one; null when there is none at this moment.</summary>
    public GuardianState? Save(KeptDescriptors kept) => _shell.Process.Exited.IsCompleted ? null : _shell.Save(kept);

    /// <summary>The guest has ended: there is nothing to take over.</summary>
    public async ValueTask DisposeAsync()
    {
        await _guestEnded.CancelAsync();
        await _watch;
        _guestEnded.Dispose();
    }

    private async Task WatchAsync(Func<Shell> start, ILogger logger)
    {
        try
        {
            while (true)
            {
                var status = await _shell.Process.Exited.WaitAsync(_guestEnded.Token);
                SupervisorLog.GuardianLost(logger, status.ToString());
                await Task.Delay(Pace, _guestEnded.Token);
                _shell = await ReplaceAsync(_shell, start, logger);
            }
        }
        catch (OperationCanceledException)
        {
            await _shell.DisposeAsync();
        }
    }

    private static async Task<Shell> ReplaceAsync(Shell dead, Func<Shell> start, ILogger logger)
    {
        try
        {
            var fresh = start();
            await dead.DisposeAsync();
            return fresh;
        }
        catch (IOException e)
        {
            SupervisorLog.GuardianLost(logger, e.Message);
            return dead;
        }
    }

    private sealed class Shell : IAsyncDisposable
    {
        private readonly FileStream _pipe;

        public Shell(VmDirectory directory, IReadOnlyList<(string Name, SafeHandle Descriptor)> keep)
        {
            using var pipe = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.None);
            using var client = pipe.ClientSafePipeHandle; // which the stream itself does not close
            var stateDirectory = Path.GetDirectoryName(directory.Path)!;
            var (program, arguments) = SelfProgram.Command("adopt", directory.Name, "--foreground", "--state-dir", stateDirectory);
            using var log = JournalStream.IsStandardError ? null : LogFile.OpenAppend(directory.SupervisorLog);
            Process = ChildProcess.Start(new ChildProcessStart
            {
                Path = "/bin/sh",
                Arguments = ["-c", Script, "cprsharp-guardian", program, .. arguments],
                StandardInput = client,
                StandardOutput = log,
                StandardError = log,
                NewSession = true,
                Descriptors = [.. keep.Select((kept, i) => new InheritedDescriptor(kept.Descriptor, StoredDescriptors.First + i))],
                Environment = new Dictionary<string, string>(SystemdNotification.ForSuccessor(), StringComparer.Ordinal)
                {
                    [StoredDescriptors.Count] = keep.Count.ToString(CultureInfo.InvariantCulture),
                    [StoredDescriptors.Names] = string.Join(':', keep.Select(kept => kept.Name)),
                },
            });
            _pipe = new FileStream(Descriptor.Duplicate(pipe.SafePipeHandle), FileAccess.Write, bufferSize: 0);
        }

        public Shell(GuardianState former)
        {
            _pipe = new FileStream(ProgramReplacement.Take(former.Pipe), FileAccess.Write, bufferSize: 0);
            Process = ChildProcess.Inherited(PidFd.FromDescriptor(ProgramReplacement.Take(former.PidFd)));
        }

        public ChildProcess Process { get; }

        public GuardianState Save(KeptDescriptors kept) => new(kept.Keep(_pipe.SafeFileHandle), kept.Keep(Process.PidFd));

        public async ValueTask DisposeAsync()
        {
            if (!Process.Exited.IsCompleted)
            {
                await _pipe.WriteAsync("ended\n"u8.ToArray());
                await Process.Exited;
            }

            await _pipe.DisposeAsync();
            await Process.DisposeAsync();
        }
    }
}
