using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Replacement;

namespace CprSharp.VmmUpdate.Qemu;

/// <summary>One running VMM process with the QMP connection that the supervisor holds to it.</summary>
/// <remarks>A VM has one of these for most of its life and two during an update. Owns the connection and, where it is our child, the process handle.</remarks>
internal sealed class Vmm : IAsyncDisposable
{
    private readonly ChildProcess? _child;
    private readonly TaskCompletionSource _replaced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Socket? _monitor;

    private Vmm(int generation, string binary, string qmpPath, PidFd pidFd, ChildProcess? child, QmpClient qmp, string logPath, Socket? monitor = null)
    {
        _monitor = monitor;
        Generation = generation;
        Binary = binary;
        QmpPath = qmpPath;
        PidFd = pidFd;
        _child = child;
        Qmp = qmp;
        LogPath = logPath;
        Exited = child?.Exited ?? ExitOfForeignAsync(pidFd);
        Ended = Task.WhenAny(Exited, _replaced.Task);
    }

    public int Generation { get; }

    public string Binary { get; }

    public string QmpPath { get; }

    public PidFd PidFd { get; }

    public int Pid => PidFd.Pid;

    public QmpClient Qmp { get; }

    public string LogPath { get; }

    /// <summary>Completes when the process has ended. The status of a process that is not our child is not known.</summary>
    public Task<ExitStatus> Exited { get; }

    /// <summary>Completes when this program has ended: with its process, or because another took its place there.</summary>
    public Task Ended { get; }

    public QemuVersion Version { get; private set; }

    /// <summary>What it said first; also after the connection has ended, as it does when another program takes its place.</summary>
    public QmpGreeting? Greeting { get; private set; }

    /// <summary>Wraps a process that was just started; its monitor may not answer yet.</summary>
    public static Vmm FromChild(int generation, string binary, string qmpPath, ChildProcess child, string logPath, Socket monitor) =>
        new(generation, binary, qmpPath, child.PidFd, child, new QmpClient(), logPath, monitor);

    /// <summary>Wraps a process that somebody else started.</summary>
    public static Vmm FromForeign(int generation, string binary, string qmpPath, PidFd pidFd, QmpClient connected, string logPath)
    {
        var vmm = new Vmm(generation, binary, qmpPath, pidFd, null, connected, logPath);
        vmm.ReadVersion();
        return vmm;
    }

    /// <summary>Wraps a process that somebody else started and that does not answer on QMP.</summary>
    public static Vmm FromUnanswering(int generation, string binary, string qmpPath, PidFd pidFd, QmpClient idle, string logPath) =>
        new(generation, binary, qmpPath, pidFd, null, idle, logPath);

    /// <summary>The one that the program before this one in our process has had. <see cref="QmpClient.Start"/> begins to read from it.</summary>
    public static Vmm Restore(VmmState state, Supervision.VmDirectory directory)
    {
        var process = PidFd.FromDescriptor(ProgramReplacement.Take(state.PidFd));
        var child = state.IsChild ? ChildProcess.Inherited(process) : null;
        var qmp = QmpClient.Restore(KeptDescriptors.TakeSocket(state.Qmp), state.Connection);
        var vmm = new Vmm(state.Generation, state.Binary, state.QmpPath, process, child, qmp, directory.VmmLog(state.Generation));
        vmm.ReadVersion();
        return vmm;
    }

    /// <summary>For the program after this one; the connection must be paused.</summary>
    public VmmState Save(KeptDescriptors kept) =>
        new(Generation, Binary, QmpPath, kept.Keep(PidFd), _child is not null, kept.Keep(Qmp.Handle), Qmp.Save());

    /// <summary>The program that has taken this one's place in the process, which is the successor's from here on.</summary>
    /// <param name="generation">Its number.</param>
    /// <param name="binary">Its executable.</param>
    /// <param name="directory">Names its files once <see cref="Supervision.VmDirectory.PassOn"/> has given them to it.</param>
    /// <param name="connected">A connection to it.</param>
    public Vmm ReplacedBy(int generation, string binary, Supervision.VmDirectory directory, QmpClient connected)
    {
        _replaced.TrySetResult();
        var successor = new Vmm(generation, binary, directory.MonitorSocket(generation), PidFd, _child, connected, directory.VmmLog(generation));
        successor.ReadVersion();
        return successor;
    }

    /// <summary>Waits for the monitor's greeting. Ends early, with the cause, when the process ends first.</summary>
    public async Task ConnectAsync(CancellationToken cancellationToken)
    {
        var connected = Interlocked.Exchange(ref _monitor, null) ?? throw new InvalidOperationException("the monitor is connected already");
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var connecting = Qmp.ConnectAsync(connected, either.Token);
        var first = await Task.WhenAny(connecting, Exited);
        if (first == Exited && !connecting.IsCompletedSuccessfully)
        {
            await either.CancelAsync();
            await ((Task)connecting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw new VmmExitedException(this, await Exited, LogTail());
        }

        try
        {
            await connecting;
        }
        catch (Exception e) when (e is QmpConnectionException or IOException && !cancellationToken.IsCancellationRequested)
        {
            // A monitor that goes away before its greeting is a process that is about to be reaped.
            await ((Task)Exited.WaitAsync(TimeSpan.FromSeconds(2), cancellationToken)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (Exited.IsCompletedSuccessfully)
                throw new VmmExitedException(this, await Exited, LogTail());
            throw;
        }

        ReadVersion();
    }

    /// <summary>Connects anew if the connection was lost.</summary>
    public async Task ReconnectAsync(CancellationToken cancellationToken)
    {
        if (Qmp.State == QmpClientState.Running)
            return;

        await Qmp.DisconnectAsync();
        await Qmp.ConnectAsync(UnixSocket.Connect(QmpPath), cancellationToken);
    }

    public Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments, CancellationToken cancellationToken) =>
        Qmp.ExecuteAsync(command, arguments, null, cancellationToken);

    public Task<JsonElement> ExecuteAsync(string command, CancellationToken cancellationToken) =>
        Qmp.ExecuteAsync(command, null, null, cancellationToken);

    /// <summary>Gives the VMM a duplicate of a descriptor, under a name by which commands speak of it (<c>getfd</c>).</summary>
    public Task GiveAsync(string name, SafeHandle descriptor, CancellationToken cancellationToken) =>
        Qmp.ExecuteAsync("getfd", new JsonObject { ["fdname"] = name }, new QmpCommandOptions { Descriptors = [descriptor] }, cancellationToken);

    public async Task<string> QueryRunStateAsync(CancellationToken cancellationToken) =>
        (await ExecuteAsync("query-status", cancellationToken)).GetProperty("status").GetString() ?? "";

    /// <summary>Ends the process with SIGKILL and waits until the kernel has released everything it held.</summary>
    /// <remarks>A clean exit would unlink sockets and run network down-scripts that belong to the VM, not to this process.</remarks>
    public async Task KillAsync()
    {
        if (!Exited.IsCompleted)
            PidFd.Signal(Signals.Kill);
        await Exited;
        await Qmp.FinishReadingAsync();
        await Qmp.DisconnectAsync();
    }

    /// <summary>
    /// Stops the whole process where it stands, and takes in what it has said until then: after that it is certain what it did, and that it does
    /// nothing more. The connection has ended then. <see cref="ThawAsync"/> lets it go on.
    /// </summary>
    public async Task FreezeAsync()
    {
        await Child.StopAsync();
        await Qmp.FinishReadingAsync();
    }

    /// <summary>Lets a frozen process go on, and connects to it again.</summary>
    public async Task ThawAsync(CancellationToken cancellationToken)
    {
        Child.Resume();
        await ReconnectAsync(cancellationToken);
    }

    /// <summary>The last lines the process wrote to its log, for messages.</summary>
    public string LogTail()
    {
        try
        {
            using var stream = new FileStream(LogPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            stream.Seek(-Math.Min(stream.Length, 4096), SeekOrigin.End);
            using var reader = new StreamReader(stream);
            var lines = reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            var errors = lines.Where(l => !l.Contains(": warning: ", StringComparison.Ordinal)).ToArray();
            return string.Join(" | ", (errors.Length > 0 ? errors : lines).TakeLast(3));
        }
        catch (IOException)
        {
            return "";
        }
    }

    public async ValueTask DisposeAsync()
    {
        _monitor?.Dispose();
        await Qmp.DisposeAsync();
        if (_replaced.Task.IsCompleted)
            return;
        if (_child is not null)
            await _child.DisposeAsync();
        else
            PidFd.Dispose();
    }

    private ChildProcess Child => _child ?? throw new InvalidOperationException($"the VMM (pid {Pid}) is not a child of this process");

    private void ReadVersion()
    {
        var greeting = Greeting = Qmp.Greeting ?? throw new InvalidOperationException("connected without a greeting");
        Version = new QemuVersion(greeting.Major, greeting.Minor, greeting.Micro);
    }

    private static async Task<ExitStatus> ExitOfForeignAsync(PidFd pidFd)
    {
        await pidFd.WaitForExitAsync(CancellationToken.None);
        return default;
    }
}

/// <summary>A VMM ended when it should not have.</summary>
internal sealed class VmmExitedException(Vmm vmm, ExitStatus status, string logTail)
    : Exception($"{vmm.Binary} (pid {vmm.Pid}) ended: {status}{(logTail.Length > 0 ? $"; it said: {logTail}" : "")}")
{
    public ExitStatus Status { get; } = status;

    public string LogTail { get; } = logTail;
}
