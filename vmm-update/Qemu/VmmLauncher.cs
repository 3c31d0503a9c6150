using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Qemu;

/// <summary>What a VMM process is started with.</summary>
/// <param name="Generation">Number of this VMM in the VM's life, from 1.</param>
/// <param name="Binary">The executable.</param>
/// <param name="Arguments">Its command line, without our monitor.</param>
/// <param name="Descriptors">Descriptors it gets, at fixed numbers.</param>
internal sealed record VmmStart(
    int Generation,
    string Binary,
    IReadOnlyList<string> Arguments,
    IReadOnlyList<InheritedDescriptor> Descriptors)
{
    /// <summary>What is executed where it is not <see cref="Binary"/> itself but something that becomes it.</summary>
    public string? Program { get; init; }

    /// <summary>The file that is executed as <see cref="Binary"/>; null for whatever that path leads to.</summary>
    public string? Executable { get; init; }

    /// <summary>Environment; null inherits ours.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    /// <summary>Working directory; null inherits ours.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>Whether the process writes its standard error to the VM's log instead of ours.</summary>
    public bool LogToFile { get; init; } = true;

    /// <summary>Have the kernel kill it when this process ends.</summary>
    public bool EndsWithUs { get; init; }

    /// <summary>Give it no terminal and no standard input of ours.</summary>
    public bool Detached { get; init; }
}

/// <summary>Starts VMM processes with a monitor on a listening socket that is made before the process, so that connecting never races.</summary>
internal static class VmmLauncher
{
    /// <summary>The number at which the VMM finds its monitor's listening socket. Below the numbers of the VM's held descriptors.</summary>
    public const int MonitorDescriptor = 190;

    /// <summary>The id of the monitor's chardev; hidden from the VM's own clients.</summary>
    public const string MonitorId = "cprsharp-qmp";

    /// <summary>Our monitor on a VMM's command line.</summary>
    public static IReadOnlyList<string> MonitorArguments { get; } =
    [
        "-chardev", $"socket,id={MonitorId},fd={MonitorDescriptor},server=on,wait=off",
        "-mon", $"chardev={MonitorId},mode=control",
    ];

    public static Vmm Start(VmmStart start, Supervision.VmDirectory directory)
    {
        var qmpPath = directory.MonitorSocket(start.Generation);
        var logPath = directory.VmmLog(start.Generation);
        using var listener = UnixSocket.Listen(qmpPath, 4, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        string[] arguments =
        [
            .. start.Arguments,
            .. MonitorArguments,
        ];
        using var log = start.LogToFile ? OpenLog(logPath) : null;
        InheritedDescriptor[] descriptors = [.. start.Descriptors, new InheritedDescriptor(listener.SafeHandle, MonitorDescriptor)];
        var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = start.Program ?? start.Executable ?? start.Binary,
            Argv0 = start.Program is null && start.Executable is not null ? start.Binary : null,
            Arguments = arguments,
            Environment = start.Environment,
            WorkingDirectory = start.WorkingDirectory,
            Descriptors = descriptors,
            EndsWithParent = start.EndsWithUs,
            StandardInput = start.Detached ? null : new SafeFileHandle(0, ownsHandle: false),
            StandardOutput = start.Detached ? log : null,
            StandardError = log,
        });
        return Vmm.FromChild(start.Generation, start.Binary, qmpPath, child, logPath, UnixSocket.Connect(qmpPath));
    }

    private static SafeFileHandle OpenLog(string path) =>
        LogFile.OpenAppend(path);
}
