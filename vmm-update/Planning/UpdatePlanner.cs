using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Engines;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Planning;

/// <summary>What is to be done: an engine, or the reason why nothing is.</summary>
internal sealed record UpdatePlan(IEngine? Engine, ReportError? Refusal);

/// <summary>Pure: a check in, a plan out.</summary>
internal static class UpdatePlanner
{
    public static UpdatePlan Plan(UpdateRequest request, CheckResult check)
    {
        if (check.Findings.FirstOrDefault(f => f.Severity == Severity.Fail) is { } blocker)
        {
            var more = check.Findings.Count(f => f.Severity == Severity.Fail) - 1;
            return new UpdatePlan(null, new ReportError(
                blocker.Id, $"{blocker.Object}: {blocker.Evidence}{(more > 0 ? $" (and {more} more)" : "")}", blocker.Fix));
        }

        var fitting = check.Engines.Where(e => e.Assessment.Eligible && e.Engine.IsAutomatic).OrderBy(e => e.Assessment.ExpectedPauseMs).ToList();
        if (request.Engine == "auto")
        {
            return fitting.Count > 0
                ? new UpdatePlan(fitting[0].Engine, null)
                : new UpdatePlan(null, new ReportError(
                    "no-engine",
                    $"no engine fits: {string.Join(" | ", check.Assessments.Where(a => !a.Eligible).Select(a => $"{a.Name}: {string.Join("; ", a.Reasons)}"))}",
                    ByNameOnly(check)));
        }

        var wanted = check.Engines.FirstOrDefault(e => e.Engine.Name == request.Engine);
        if (wanted.Engine is null)
        {
            return new UpdatePlan(null, new ReportError(
                "engine-unknown", $"there is no engine '{request.Engine}'", $"use auto, {string.Join(", ", check.Engines.Select(e => e.Engine.Name))}"));
        }

        return wanted.Assessment.Eligible
            ? new UpdatePlan(wanted.Engine, null)
            : new UpdatePlan(null, new ReportError(
                "engine-not-eligible", $"{request.Engine}: {string.Join("; ", wanted.Assessment.Reasons)}", "use --engine auto, or see `cprsharp check`"));
    }

    private static string ByNameOnly(CheckResult check) =>
        check.Engines.FirstOrDefault(e => e.Assessment.Eligible).Engine is { } fits
            ? $"engine {fits.Name} fits, and is used only where it is asked for: --engine {fits.Name}"
            : "see `cprsharp check`";
}
