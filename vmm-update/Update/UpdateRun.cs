using CprSharp.Qmp;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>One update: what its parts share, and what the report says of it.</summary>
internal sealed class UpdateRun(IVmHost host, UpdateOptions options, FaultPlan faults, ILogger logger, Action<UpdatePhase>? entered)
{
    public IVmHost Host { get; } = host;

    public UpdateOptions Options { get; } = options;

    public FaultPlan Faults { get; } = faults;

    public ILogger Logger { get; } = logger;

    public DateTimeOffset Started { get; } = DateTimeOffset.UtcNow;

    public PhaseClock Clock { get; } = new(entered);

    public List<Finding> Findings { get; } = [];

    /// <summary>How long all that precedes the pause may take, unless it is cancelled.</summary>
    public CancellationTokenSource PreparationDeadline(CancellationToken cancellationToken)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        source.CancelAfter(TimeSpan.FromSeconds(Options.PrepareDeadlineSeconds));
        return source;
    }

    public CancellationTokenSource ReturnDeadline() => new(TimeSpan.FromSeconds(Options.RollbackDeadlineSeconds));

    /// <summary>Throws when a finding stands in the way.</summary>
    public void RequireNoBlocker()
    {
        if (Findings.Find(f => f.Severity == Severity.Fail) is { } blocker)
            throw new UpdateException(blocker.Id, $"{blocker.Object}: {blocker.Evidence}", blocker.Fix) { IsRefusal = true };
    }

    public ReportError Describe(Exception exception, string where, CancellationToken asked) => exception switch
    {
        UpdateException e => new ReportError(e.Code, e.Message, e.Fix),
        FaultInjectedException e => new ReportError("fault-injected", e.Message, "unset CPRSHARP_FAULT"),
        OperationCanceledException when asked.IsCancellationRequested => new ReportError("cancelled", $"cancelled on request; {where}", ""),
        OperationCanceledException => new ReportError(
            "deadline",
            $"the {Clock.Current?.ToString().ToLowerInvariant()} phase did not end in time; {where}",
            "raise Update:PrepareDeadlineSeconds or Update:PauseDeadlineMs if the host is only slow"),
        VmmExitedException e => new ReportError("vmm-ended", e.Message, "see the VMM's log"),
        QmpException e => new ReportError("qmp-error", $"{e.Command}: {e.Description}", "see the VMM's log"),
        _ => new ReportError("internal", $"{exception.GetType().Name}: {exception.Message}", "see the supervisor's log"),
    };

    public UpdateReport Finish(UpdateReport report)
    {
        Clock.End();
        if (Host.TakeNetworkLoss() is { } loss)
            Findings.Add(loss);
        return report with
        {
            TotalMs = Math.Round(Clock.TotalMs, 3),
            Phases = Clock.Phases,
            Findings = [.. Findings],
        };
    }
}
