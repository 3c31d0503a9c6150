using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What can be asked of a supervisor: one update at a time, checks and status at any time.</summary>
internal sealed class UpdateService(VmSupervisor supervisor, UpdateOptions options, BinaryPolicy policy, ILogger<UpdateOrchestrator> logger) : IDisposable
{
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly Lock _lock = new();
    private CancellationTokenSource? _running;
    private UpdatePhase? _phase;
    private volatile bool _reserved;

    /// <summary>Raised when an update enters a phase, and with its report when it ends.</summary>
    public event Action<UpdatePhase?, UpdateReport?>? Progress;

    /// <summary>Whether the VMM's end is the update's doing and not the guest's.</summary>
    public bool IsUpdating => _one.CurrentCount == 0 && !_reserved;

    /// <summary>Keeps updates from beginning until disposed; null when one is under way.</summary>
    public IDisposable? TryReserve()
    {
        if (!_one.Wait(0))
            return null;
        _reserved = true;
        return new Reservation(this);
    }

    /// <summary>A client has gone: what it lent goes back, unless an update is under way, which gives it back itself.</summary>
    public void Forget(object client)
    {
        if (!supervisor.Loans.IsOf(client) || !_one.Wait(0))
            return;
        supervisor.Loans.Return();
        _one.Release();
    }

    /// <summary>Completes when no update is under way.</summary>
    public async Task WhenIdleAsync()
    {
        await _one.WaitAsync();
        _one.Release();
    }

    public async Task<CheckReport> CheckAsync(string? to, CancellationToken cancellationToken)
    {
        var current = supervisor.Current;
        var path = to ?? current.Binary;
        var from = new VmmEnd(current.Version.ToString(), current.Binary, current.Pid);
        QemuBinary target;
        try
        {
            supervisor.Verify(policy, path);
            target = await supervisor.FactsAsync(path, cancellationToken);
        }
        catch (UpdateException e)
        {
            return new CheckReport(1, supervisor.Directory.Name, Verdict.Blocked, from, new VmmEnd("", path, 0), [], [Finding.Fail(e.Code, path, e.Message, e.Fix)]);
        }

        var inspection = await VmInspector.InspectAsync(current, await supervisor.FactsAsync(current.Binary, cancellationToken), cancellationToken);
        var check = await new VmChecker(supervisor).CheckAsync(inspection, target, rehearse: true, cancellationToken);
        return new CheckReport(
            1,
            supervisor.Directory.Name,
            CheckReport.Judge(check.Findings, check.Assessments),
            from,
            new VmmEnd(target.Version.ToString(), path, 0),
            check.Assessments,
            check.Findings);
    }

    /// <summary>Updates the VM. Never throws for a failing update: the report says what happened.</summary>
    public async Task<UpdateReport> UpdateAsync(UpdateRequest request, CancellationToken cancellationToken)
    {
        if (!await _one.WaitAsync(0, CancellationToken.None))
            return Busy(request);

        try
        {
            using var running = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            lock (_lock)
                _running = running;
            if (request.Faults != FaultPlan.None)
                SupervisorLog.FaultsArmed(logger, string.Join(", ", request.Faults.Armed));
            var report = Forbidden(request)
                ?? await new UpdateOrchestrator(supervisor, options, logger, Enter).RunAsync(request with { Engine = request.Engine ?? options.Engine }, running.Token);
            if (report.Outcome != UpdateOutcome.Planned)
                Remember(report);
            SupervisorLog.UpdateEnded(logger, report.Outcome, report.From.Version, report.To.Version, report.Engine, report.Phases.LastOrDefault()?.Name, report.PauseMs, report.Error?.Message);
            Progress?.Invoke(null, report);
            return report;
        }
        finally
        {
            supervisor.Consoles.EndUpdate();
            supervisor.Loans.Return();
            lock (_lock)
            {
                _running = null;
                _phase = null;
            }

            _one.Release();
        }
    }

    /// <summary>A live update to the binary before the last one.</summary>
    public Task<UpdateReport> RollbackAsync(FaultPlan faults, CancellationToken cancellationToken)
    {
        var record = supervisor.Record;
        if (record.PreviousBinary is { } previous)
            return UpdateAsync(new UpdateRequest(previous, null, DryRun: false) { Faults = faults }, cancellationToken);

        var current = new VmmEnd(record.Version, record.Binary, record.Pid);
        return Task.FromResult(new UpdateReport
        {
            Vm = record.Name,
            Outcome = UpdateOutcome.Refused,
            Started = DateTimeOffset.UtcNow,
            From = current,
            To = current with { Pid = 0 },
            Error = new ReportError("nothing-to-roll-back", "this VM has not been updated, so there is no binary before the last update", "use `cprsharp update --to BINARY`"),
        });
    }

    /// <summary>Asks the update under way to stop. It does if the guest is not yet being paused; else it goes on to its end.</summary>
    /// <returns>Whether an update was under way.</returns>
    public bool Cancel()
    {
        lock (_lock)
        {
            if (_running is null)
                return false;
            _running.Cancel();
            return true;
        }
    }

    public async Task<StatusReport> StatusAsync(CancellationToken cancellationToken)
    {
        var record = supervisor.Record;
        UpdatePhase? phase;
        lock (_lock)
            phase = _phase;
        string runState;
        try
        {
            runState = phase is null ? await supervisor.Current.QueryRunStateAsync(cancellationToken) : "updating";
        }
        catch (IOException)
        {
            runState = "";
        }

        return StatusOf(record, supervisor.Directory, "supervised", runState) with { UpdateUnderWay = phase?.ToString().ToLowerInvariant() };
    }

    /// <summary>A status from the record alone.</summary>
    public static StatusReport StatusOf(VmRecord record, VmDirectory directory, string supervision, string runState) => new()
    {
        Vm = record.Name,
        Supervision = supervision,
        RunState = runState,
        Vmm = new VmmEnd(record.Version, record.Binary, record.Pid),
        SupervisorPid = record.SupervisorPid,
        MachineType = record.Spec.MachineType,
        QmpSocket = directory.QmpSocket,
        PreviousBinary = record.PreviousBinary,
        Engine = record.LastEngine,
        LastUpdate = record.LastUpdate,
        LastOutcome = record.LastOutcome,
        LastPauseMs = record.LastPauseMs,
        Changes = record.Spec.Changes,
    };

    public void Dispose() => _one.Dispose();

    private void Enter(UpdatePhase phase)
    {
        lock (_lock)
            _phase = phase;

        // Nothing is sent between Pause and Commit: clients learn of those phases from the report.
        if (phase is not (UpdatePhase.Pause or UpdatePhase.Transfer or UpdatePhase.Verify or UpdatePhase.Commit))
            Progress?.Invoke(phase, null);
    }

    private void Remember(UpdateReport report)
    {
        try
        {
            supervisor.Remember(report);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            SupervisorLog.HistoryNotWritten(logger, supervisor.Directory.History, e);
        }
    }

    /// <summary>The refusal when the policy does not let the target be executed at all, else null.</summary>
    private UpdateReport? Forbidden(UpdateRequest request)
    {
        try
        {
            supervisor.Verify(policy, request.To);
            return null;
        }
        catch (UpdateException e)
        {
            return NotBegun(request, UpdateOutcome.Refused, new ReportError(e.Code, e.Message, e.Fix)) with
            {
                Findings = [Finding.Fail(e.Code, request.To, e.Message, e.Fix)],
            };
        }
    }

    private UpdateReport Busy(UpdateRequest request) => NotBegun(
        request,
        UpdateOutcome.Failed,
        _reserved
            ? new ReportError(ReportError.Busy, "the supervisor is being replaced by another build", "try again")
            : new ReportError(ReportError.Busy, "another update of this VM is under way", $"wait for it; see `cprsharp status {supervisor.Directory.Name}`"));

    private UpdateReport NotBegun(UpdateRequest request, UpdateOutcome outcome, ReportError error)
    {
        var current = supervisor.Current;
        return new UpdateReport
        {
            Vm = supervisor.Directory.Name,
            Outcome = outcome,
            Started = DateTimeOffset.UtcNow,
            From = new VmmEnd(current.Version.ToString(), current.Binary, current.Pid),
            To = new VmmEnd("", request.To, 0),
            Error = error,
        };
    }

    private sealed class Reservation(UpdateService service) : IDisposable
    {
        public void Dispose()
        {
            service._reserved = false;
            service._one.Release();
        }
    }
}
