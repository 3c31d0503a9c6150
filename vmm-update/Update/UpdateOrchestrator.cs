using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Planning;
using CprSharp.VmmUpdate.Reporting;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Takes one VM through an update: looks at it, plans, and lets the engine's kind of update do the rest.</summary>
internal sealed class UpdateOrchestrator(IVmHost host, UpdateOptions options, ILogger logger, Action<UpdatePhase>? entered = null)
{
    /// <summary>Never throws for a failing update: the report says what happened.</summary>
    public async Task<UpdateReport> RunAsync(UpdateRequest request, CancellationToken cancellationToken)
    {
        var run = new UpdateRun(host, options, request.Faults, logger, entered);
        var old = host.Current;
        var report = new UpdateReport
        {
            Vm = host.Directory.Name,
            Outcome = UpdateOutcome.Failed,
            Started = run.Started,
            From = new VmmEnd(old.Version.ToString(), old.Binary, old.Pid),
            To = new VmmEnd("", request.To, 0),
        };
        UpdatePlan? plan = null;
        VmInspection inspection;
        QemuBinary target;
        IDisposable hold;
        try
        {
            run.Clock.Enter(UpdatePhase.Inspect);
            using var deadline = run.PreparationDeadline(cancellationToken);
            await run.Faults.HitAsync(FaultPoint.InspectBegin, deadline.Token);
            hold = await host.HoldChangesAsync(deadline.Token);
            try
            {
                await host.DeviceMemory.RestoreAsync(deadline.Token);
                target = await host.FactsAsync(request.To, deadline.Token);
                report = report with { To = report.To with { Version = target.Version.ToString() } };
                inspection = await VmInspector.InspectAsync(old, await host.FactsAsync(old.Binary, deadline.Token), deadline.Token);
                var check = await new VmChecker(host).CheckAsync(inspection, target, rehearse: false, deadline.Token);

                run.Clock.Enter(UpdatePhase.Plan);
                run.Findings.AddRange(check.Findings);
                plan = UpdatePlanner.Plan(request, check);
                report = report with { Engine = plan.Engine?.Name, PointOfNoReturn = plan.Engine?.PointOfNoReturn(inspection) };
                await run.Faults.HitAsync(FaultPoint.PlanMade, deadline.Token);
            }
            catch
            {
                hold.Dispose();
                throw;
            }
        }
        catch (UpdateException e) when (e.Code.StartsWith("binary-", StringComparison.Ordinal))
        {
            run.Findings.Add(Finding.Fail(e.Code, request.To, e.Message, e.Fix));
            return run.Finish(report with { Outcome = UpdateOutcome.Refused, Error = new ReportError(e.Code, e.Message, e.Fix) });
        }
        catch (Exception e)
        {
            return run.Finish(report with { Error = run.Describe(e, "the guest was not touched", cancellationToken) });
        }

        using (hold)
        {
            if (plan.Engine is null)
                return run.Finish(report with { Outcome = UpdateOutcome.Refused, Error = plan.Refusal });
            if (request.DryRun)
                return run.Finish(report with { Outcome = UpdateOutcome.Planned });

            using var holdings = plan.Engine as IDisposable;
            if (plan.Engine is IInPlaceEngine staying)
            {
                await using var inPlace = new InPlaceUpdate(run, staying);
                return run.Finish(await inPlace.RunAsync(report, inspection, target, cancellationToken));
            }

            await using var switchover = new SwitchoverUpdate(run, (IUpdateEngine)plan.Engine, inspection, target);
            return run.Finish(await switchover.RunAsync(report, cancellationToken));
        }
    }
}
