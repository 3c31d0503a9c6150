using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Consoles;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Networking;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Supervises one VM: holds its descriptors, its VMM, and the record of both.</summary>
internal sealed class VmSupervisor : IVmHost, IAsyncDisposable
{
    private readonly ILogger _logger;
    private readonly HeldDescriptors _held;
    private readonly ClientGate _gate;
    private readonly ConcurrentDictionary<string, QemuBinary> _facts = new(StringComparer.Ordinal);
    private readonly VerifiedBinaries _verified = new();
    private readonly Lock _recordLock = new();
    private readonly Lock _saving = new();
    private TapStandIns? _standIns;
    private TapDiversion? _diversion;
    private long _framesLost;
    private VncListeners? _vnc;
    private SwitchMark? _mark;
    private bool _ended;
    private VmRecord _record;

    private VmSupervisor(VmDirectory directory, VmRecord record, HeldDescriptors held, ConsoleHub consoles, Vmm current, ILogger logger)
    {
        _logger = logger;
        DeviceMemory = new DeviceMemory(current, logger);
        DeviceMemory.Note();
        Consoles = consoles;
        Directory = directory;
        _record = record;
        _held = held;
        Current = current;
        _gate = new ClientGate();
    }

    public VmDirectory Directory { get; }

    /// <summary>Whether this process started the VM, and so has what its caller passed.</summary>
    public bool StartedHere { get; private init; }

    public bool IsAdopted => Record.Adopted;

    public Vmm Current { get; private set; }

    public DeviceMemory DeviceMemory { get; private set; }

    public VmRecord Record
    {
        get
        {
            lock (_recordLock)
                return _record;
        }
    }

    public ClientGate Gate => _gate;

    public ConsoleHub Consoles { get; }

    /// <summary>What was lent for the next update or check.</summary>
    public Loans Loans { get; } = new();

    /// <summary>Raised after the guest has moved to another VMM.</summary>
    public event Action<Vmm>? Switched;

    public IReadOnlyList<InheritedDescriptor> HeldDescriptors => _held.All;

    /// <summary>Names of the tap devices by descriptor number.</summary>
    public IReadOnlyDictionary<int, string> TapNames => _held.Taps.ToDictionary(t => t.Wanted.Number, t => TapDevice.NameOf(t.Queue));

    public IReadOnlyList<Finding> SpecFindings =>
        [.. Record.Spec.Findings.Select(f => new Finding(f.Id, (Severity)f.Severity, f.Object, f.Evidence, f.Fix))];

    /// <summary>Starts a VM: makes its memory and listeners, then its first VMM.</summary>
    public static async Task<VmSupervisor> StartAsync(VmDirectory directory, QemuBinary facts, VmLife life, ILogger logger, CancellationToken cancellationToken)
    {
        var spec = life.Spec;
        var held = Supervision.HeldDescriptors.Create(spec, directory, facts.Path);
        ConsoleHub? consoles = null;
        Vmm? vmm = null;
        try
        {
            consoles = ConsoleHub.Open(spec, StoredDescriptors.None, logger);
            var arguments = spec.RenderFirstStart();

            // Where consoles wait for a client, the guest does not run before they have it.
            var waits = spec.Descriptors.OfType<ConsoleDescriptor>().Any(c => c.Wait) && !arguments.Contains("-S");
            if (consoles.AwaitsClients)
                SupervisorLog.AwaitsClients(logger, string.Join(", ", consoles.Names.Values));
            await consoles.ClientsAsync(cancellationToken);
            var start = new VmmStart(1, facts.Path, waits ? [.. arguments, "-S"] : arguments, [.. held.All, .. held.PassedOn, .. life.PassedOn(held.All)])
            {
                Detached = life.Detached,
                LogToFile = life.Detached,
                EndsWithUs = life.EndsWithSupervisor,
            };
            vmm = VmmLauncher.Start(start, directory);
            held.LetGo();
            await vmm.ConnectAsync(cancellationToken);
            await consoles.ServeAsync(vmm, logger);
            if (waits)
                await vmm.ExecuteAsync("cont", cancellationToken);
            var record = new VmRecord
            {
                Name = directory.Name,
                Spec = spec,
                Binary = facts.Path,
                Version = vmm.Version.ToString(),
                Generation = 1,
                Pid = vmm.Pid,
                StartTicks = ProcFs.StartTimeTicks(vmm.Pid),
                QmpPath = vmm.QmpPath,
                SupervisorPid = Environment.ProcessId,
                Detached = life.Detached,
                EndsWithSupervisor = life.EndsWithSupervisor,
                WorkingDirectory = Environment.CurrentDirectory,
            };
            var supervisor = new VmSupervisor(directory, record, held, consoles, vmm, logger) { StartedHere = true };
            supervisor._facts[$"{Identity(facts.Path)}|"] = facts;
            supervisor.SaveRecord();
            return supervisor;
        }
        catch
        {
            if (vmm is not null)
            {
                await vmm.KillAsync();
                await vmm.DisposeAsync();
            }

            if (consoles is not null)
                await consoles.DisposeAsync();
            held.Dispose();
            throw;
        }
    }

    /// <summary>Takes over a VMM that is already running; the record is still to be saved.</summary>
    public static VmSupervisor TakeOver(VmDirectory directory, VmRecord record, HeldDescriptors held, StoredDescriptors stored, Vmm vmm, ILogger logger)
    {
        var consoles = ConsoleHub.Open(record.Spec, stored, logger);
        var supervisor = new VmSupervisor(directory, record with { SupervisorPid = Environment.ProcessId }, held, consoles, vmm, logger);
        _ = consoles.ServeAsync(vmm, logger);
        return supervisor;
    }

    /// <summary>Goes on with what the program before this one in our process has had.</summary>
    public static VmSupervisor Restore(VmDirectory directory, SupervisorState state, ILogger logger)
    {
        var vmm = Vmm.Restore(state.Vmm, directory);
        var consoles = ConsoleHub.Restore(state.Record.Spec, state.Consoles, vmm.Ended);
        var supervisor = new VmSupervisor(directory, state.Record, Supervision.HeldDescriptors.Restore(state.Record.Spec, state.Held), consoles, vmm, logger);
        _ = consoles.ServeAsync(vmm, logger);
        return supervisor;
    }

    public HeldState SaveHeld(KeptDescriptors kept) => _held.Save(Record.Spec, kept);

    public IReadOnlyList<string> TargetArguments(QemuBinary binary) => Record.Spec.RenderTarget(binary.ToFacts());

    public IReadOnlyList<InheritedDescriptor> CreateRehearsalDescriptors(VmDirectory scratch) =>
        [.. Supervision.HeldDescriptors.CreateForRehearsal(Record.Spec, scratch).All, .. TapStandIns.Create(_held.Taps, Loans).Descriptors];

    public IReadOnlyList<string> InPlaceCommand(QemuBinary binary) =>
        [binary.Path, .. TargetArguments(binary), "-S", "-incoming", "defer", .. VmmLauncher.MonitorArguments];

    public Vmm StartVmm(int generation, QemuBinary binary, EngineStart engine)
    {
        var record = Record;
        string[] arguments = [.. TargetArguments(binary), "-S", .. engine.Arguments];
        _standIns?.Dispose();
        _standIns = TapStandIns.Create(_held.Taps, Loans);
        InheritedDescriptor[] descriptors = [.. _held.Prepared, .. _standIns.Descriptors, .. engine.Descriptors];
        var start = new VmmStart(generation, binary.Path, arguments, descriptors)
        {
            Detached = record.Detached,
            EndsWithUs = record.EndsWithSupervisor,
            WorkingDirectory = record.WorkingDirectory,

            // Not ours: whoever took the VM over may have another.
            Environment = engine.Environment ?? ProcessIdentity.EnvironmentOf(Current.Pid),
            Executable = binary.Executable,
        };
        return VmmLauncher.Start(record.Adopted ? ProcessIdentity.Of(Current.Pid).Apply(start) : start, Directory);
    }

    public Task<IReadOnlyList<Finding>> MatchProcessAsync(Vmm fresh, CancellationToken cancellationToken) =>
        ProcessMatcher.MatchAsync(Current, fresh, Loans, cancellationToken);

    public async Task<IReadOnlyList<Finding>> RepeatSettingsAsync(Vmm fresh, CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        foreach (var setting in Record.Spec.Settings)
        {
            try
            {
                await fresh.ExecuteAsync(setting.Command, JsonNode.Parse(setting.Arguments)!.AsObject(), cancellationToken);
            }
            catch (QmpException e)
            {
                findings.Add(Finding.Warn(
                    "setting-lost", setting.Subject, $"{setting.What} ({setting.Command}) cannot be set in the new VMM: {e.Description}", "set it again after the update"));
            }
        }

        return findings;
    }

    public async Task<IDisposable> HoldChangesAsync(CancellationToken cancellationToken)
    {
        var changes = await _gate.HoldChangesAsync(cancellationToken);
        return new ChangesHold(changes, Consoles.HoldCommands(), () => _vnc?.Dispose());
    }

    public Task PrepareConsolesAsync(Vmm fresh, CancellationToken cancellationToken) => Consoles.PrepareAsync(fresh, Record.Spec, cancellationToken);

    public async Task HoldListenersAsync(Vmm old, CancellationToken cancellationToken) =>
        _vnc = Record.Spec.AfterCommit.Any(a => a.Command == "display-update") ? await VncListeners.HoldAsync(old, cancellationToken) : null;

    public async Task PrepareNetworkAsync(Vmm old, CancellationToken cancellationToken)
    {
        _diversion?.Dispose();
        _diversion = HasTaps ? await TapDiversion.PrepareAsync(_held.Taps, Loans, old, cancellationToken) : null;
    }

    public Task DivertNetworkAsync(Vmm old) => _diversion is { } diversion ? Task.Run(() => diversion.Begin(old.PidFd)) : Task.CompletedTask;

    public bool HasTaps => _held.Taps.Count > 0;

    public RealTimeLoan? RealTime => Loans.RealTime;

    public Task ConnectNetworkAsync(Vmm fresh) => !HasTaps ? Task.CompletedTask : Task.Run(() =>
    {
        EndDiversion(_diversion);
        _standIns!.PassSettingsOn();
        TapStandIns.Connect(fresh.PidFd, Record.Spec);
        _standIns.Wake();
    });

    public async Task ReturnNetworkAsync(Vmm old, CancellationToken cancellationToken)
    {
        if (_diversion is not { } diversion)
            return;
        _diversion = null;
        using (diversion)
        {
            if (diversion.IsBegun)
            {
                await Task.Run(() => TapStandIns.Connect(old.PidFd, Record.Spec), cancellationToken);
                diversion.Wake();
                EndDiversion(diversion);
            }

            await TapDiversion.RemoveAsync(old, cancellationToken);
        }
    }

    public Finding? TakeNetworkLoss()
    {
        var lost = Interlocked.Exchange(ref _framesLost, 0);
        return lost == 0 ? null : Finding.Warn(
            "tap-frames-lost", Record.Name, $"{lost} frames that the guest sent while its tap devices were exchanged were not taken by the host's network",
            "give the tap devices a larger sndbuf=, or none");
    }

    private void EndDiversion(TapDiversion? diversion)
    {
        diversion?.End();
        _framesLost = diversion?.Lost ?? 0;
    }

    public void HoldClients()
    {
        _gate.HoldAll();
        Consoles.Hold();
    }

    public void ReleaseClients()
    {
        _gate.ReleaseAll();
        Consoles.Release();
    }

    public void Switch(Vmm fresh, bool isReturn = false)
    {
        var before = Current;
        Current = fresh;
        _diversion?.Dispose();
        _diversion = null;
        Consoles.Switch(before, fresh);
        UpdateRecord(r => r with
        {
            PreviousBinary = isReturn ? r.PreviousBinary : before.Binary,
            Binary = fresh.Binary,
            Version = fresh.Version.ToString(),
            Generation = fresh.Generation,
            Pid = fresh.Pid,
            StartTicks = ProcFs.StartTimeTicks(fresh.Pid),
            QmpPath = fresh.QmpPath,
        });
        Switched?.Invoke(fresh);
    }

    public async Task<IReadOnlyList<Finding>> AfterCommitAsync(Vmm fresh, CancellationToken cancellationToken)
    {
        await DeviceMemory.DisposeAsync();
        DeviceMemory = new DeviceMemory(fresh, _logger);
        DeviceMemory.Note();
        var findings = new List<Finding>();
        foreach (var action in Record.Spec.AfterCommit)
        {
            try
            {
                if (action.Command == "display-update" && _vnc is { } vnc && await vnc.TryPassAsync(fresh, cancellationToken))
                    continue;
                var answer = await fresh.ExecuteAsync(action.Command, JsonNode.Parse(action.Arguments)?.AsObject(), cancellationToken);

                // The human monitor has no errors: what it has to say is one.
                if (answer.ValueKind == JsonValueKind.String && answer.GetString()!.Trim() is { Length: > 0 } complaint)
                    Note(action, complaint);
            }
            catch (QmpException e)
            {
                Note(action, e.Description);
            }
        }

        return findings;

        void Note(AfterCommitAction action, string problem) =>
            findings.Add(Finding.Warn("after-commit", action.Command, $"not done: {action.Why} {problem}", "do it by hand on the monitor"));
    }

    public void UpdateRecord(Func<VmRecord, VmRecord> change)
    {
        lock (_recordLock)
            _record = change(_record);
    }

    public void SaveRecord()
    {
        lock (_saving)
        {
            if (!_ended)
                VmFiles.Write(Directory, Record);
        }
    }

    /// <summary>The guest has ended: its directory goes, and nothing is written there any more.</summary>
    public void RemoveDirectory()
    {
        lock (_saving)
        {
            _ended = true;
            if (Directory.Exists)
                System.IO.Directory.Delete(Directory.Path, recursive: true);
        }
    }

    public void SaveJournal(UpdateJournal? journal)
    {
        _mark?.Dispose();
        _mark = journal is null ? null : SwitchMark.Create(Directory);
        VmFiles.Write(Directory, journal);
        if (journal is null)
            SwitchMark.Delete(Directory);
    }

    public void Mark(SwitchStep step) => _mark!.Set(step);

    /// <summary>Adds an update to the VM's history, and to its record as the last one.</summary>
    /// <exception cref="IOException">The directory cannot be written.</exception>
    public void Remember(UpdateReport report)
    {
        UpdateRecord(r => r with
        {
            LastUpdate = report.Started,
            LastOutcome = JsonNamingPolicy.CamelCase.ConvertName(report.Outcome.ToString()),
            LastPauseMs = report.PauseMs,
            LastEngine = report.Engine,
        });
        SaveRecord();
        UpdateHistory.Append(Directory, report);
    }

    /// <summary>Before a binary is executed as a target.</summary>
    /// <exception cref="UpdateException">The policy forbids it.</exception>
    public void Verify(BinaryPolicy policy, string binary) => _verified.Verify(policy, binary);

    public async Task<QemuBinary> FactsAsync(string binary, CancellationToken cancellationToken)
    {
        var executable = _verified.Executable(binary);
        var identity = $"{Identity(binary)}|{executable}";
        if (_facts.TryGetValue(identity, out var known))
            return known;

        var facts = await BinaryProbe.ProbeAsync(binary, _ => Record.Spec.MachineType, cancellationToken, executable) with { Executable = executable };
        _facts[identity] = facts;
        return facts;
    }

    public async ValueTask DisposeAsync()
    {
        await DeviceMemory.DisposeAsync();
        await Consoles.DisposeAsync();
        await Current.DisposeAsync();
        _standIns?.Dispose();
        _diversion?.Dispose();
        Loans.Dispose();
        _mark?.Dispose();
        _verified.Dispose();
        _held.Dispose();
    }

    /// <summary>A binary that was replaced on disk under its name is another binary.</summary>
    private static string Identity(string path)
    {
        var file = new FileInfo(path);
        return file.Exists ? $"{path}|{file.Length}|{file.LastWriteTimeUtc.Ticks}" : path;
    }

    private sealed class ChangesHold(IDisposable changes, IDisposable commands, Action atEnd) : IDisposable
    {
        public void Dispose()
        {
            changes.Dispose();
            commands.Dispose();
            atEnd();
        }
    }
}
