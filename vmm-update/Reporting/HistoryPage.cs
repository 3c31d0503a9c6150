using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using System.Text;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>A VM's updates as one page for people: nothing in it is loaded from elsewhere, and no script is needed.</summary>
internal static class HistoryPage
{
    private const string Style = """
        :root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2126;--soft:#5c6670;--line:#dfe3e6;--ok:#1a7f4b;--warn:#9a6700;--bad:#c0362c;
        --prep:#8fa9c4;--work:#4878a8;--pause:#d9822b;--old:#7a6ba8;--new:#2f8f83;--load:#86a8a2;--idle:#e6e9ec}
        @media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1d2125;--ink:#e6e9ec;--soft:#9aa5af;--line:#343a40;--ok:#4cc38a;--warn:#e0b040;--bad:#ff7b6e;
        --prep:#54708c;--work:#6a9bcd;--pause:#e89a4c;--old:#9f92cf;--new:#3f9f92;--load:#4d6a66;--idle:#2b3035}}
        *{box-sizing:border-box}body{margin:0;padding:1.2rem;background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
        main{max-width:62rem;margin:auto}h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.05rem;margin:0}p{margin:.3rem 0}
        .soft{color:var(--soft)}.num{font-variant-numeric:tabular-nums}code{font-size:.88em;overflow-wrap:anywhere}
        .facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}.facts div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem .9rem}
        .facts b{display:block;font-size:1.25rem}article{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem;margin:1rem 0}
        header.u{display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:baseline}.tag{border:1px solid currentColor;border-radius:1rem;padding:0 .6rem;font-size:.85rem;white-space:nowrap}
        .ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}
        .lane{display:grid;grid-template-columns:6.2rem 1fr;gap:.5rem;align-items:center;margin:.25rem 0;font-size:.85rem}
        .bar{position:relative;height:1.35rem;background:var(--idle);border-radius:.25rem;overflow:hidden}
        .bar i{position:absolute;top:0;bottom:0;min-width:1px;font-style:normal;font-size:.72rem;line-height:1.35rem;color:#fff;text-align:center;overflow:hidden;white-space:nowrap}
        .prep{background:var(--prep)}.work{background:var(--work)}.pause{background:var(--pause)}.old{background:var(--old)}.new{background:var(--new)}.stopped{background:var(--pause)}
        .load{background:var(--load)}.bar i+i{border-left:1px solid var(--card)}.lane span{white-space:nowrap}
        .scale{display:flex;justify-content:space-between;font-size:.75rem;color:var(--soft);margin-left:6.7rem}h3{font-size:.9rem;margin:.8rem 0 .2rem}
        details{margin-top:.6rem}summary{cursor:pointer;color:var(--soft)}.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;margin:.4rem 0}
        td,th{text-align:left;padding:.15rem .9rem .15rem 0;vertical-align:top}td.num,th.num{text-align:right}.key{display:flex;flex-wrap:wrap;gap:.3rem 1rem;font-size:.8rem;color:var(--soft);margin:.4rem 0}
        .key i{display:inline-block;width:.9rem;height:.7rem;border-radius:.15rem;margin-right:.35rem}svg{display:block;width:100%;height:7rem}svg rect.ok{fill:var(--ok)}svg rect.warn{fill:var(--warn)}svg rect.bad{fill:var(--bad)}
        @media(max-width:34rem){body{padding:.7rem}.lane{grid-template-columns:4.9rem 1fr}.scale{margin-left:5.4rem}article{padding:.7rem}}
        """;

    /// <param name="history">The updates.</param>
    /// <param name="now">When the page is made.</param>
    public static string Render(HistoryDocument history, DateTimeOffset now)
    {
        var page = new StringBuilder();
        page.Append($"""
            <!DOCTYPE html>
            <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
            <title>{Text(history.Vm)}: live updates</title><style>{Style}</style></head><body><main>
            <h1>{Text(history.Vm)}: live updates</h1><p class="soft">as of {Time(now)}, by cprsharp {Text(ProgramIdentity.OwnVersion)}</p>

            """);
        if (history.Updates.IsEmpty)
        {
            page.Append("<p>This VM has not been updated since it was started.</p>\n");
        }
        else
        {
            Summary(page, history.Updates);
            page.Append("""
                <div class="key"><span><i class="work"></i>supervisor works, <i class="prep"></i>prepares</span><span><i class="pause"></i>guest paused</span><span><i class="old"></i>guest runs on the old QEMU</span><span><i class="load"></i>new QEMU starts, waits and loads</span><span><i class="new"></i>guest runs on the new QEMU</span></div>

                """);
            foreach (var update in history.Updates.Reverse())
                Update(page, update);
        }

        return page.Append("</main></body></html>\n").ToString();
    }

    private static void Summary(StringBuilder page, ImmutableArray<UpdateReport> updates)
    {
        double[] pauses = [.. updates.Where(u => u.Outcome == UpdateOutcome.Updated).Select(u => u.PauseMs).OfType<double>().Order()];
        page.Append("<div class=\"facts\">");
        Fact(page, $"{updates.Length}", "attempts");
        Fact(page, $"{updates.Count(u => u.Outcome == UpdateOutcome.Updated)}", "updated");
        Fact(page, $"{updates.Count(u => u.Outcome != UpdateOutcome.Updated)}", "not updated");
        if (pauses.Length > 0)
        {
            Fact(page, Milliseconds(pauses[pauses.Length / 2]), "median pause");
            Fact(page, Milliseconds(pauses[^1]), "longest pause");
        }

        page.Append("</div>\n");
        if (updates.Count(u => u.PauseMs is not null) > 1)
            Pauses(page, updates);
    }

    private static void Fact(StringBuilder page, string number, string what) => page.Append($"<div><b class=\"num\">{Text(number)}</b>{Text(what)}</div>");

    /// <summary>All pauses side by side, oldest first.</summary>
    private static void Pauses(StringBuilder page, ImmutableArray<UpdateReport> updates)
    {
        UpdateReport[] paused = [.. updates.Where(u => u.PauseMs is not null)];
        var longest = Math.Max(paused.Max(u => u.PauseMs!.Value), 0.001);
        var width = 100.0 / paused.Length;
        page.Append($"<article><h2>Pauses, oldest first</h2><p class=\"soft\">full height: {Milliseconds(longest)}</p><svg viewBox=\"0 0 100 30\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"pauses\">");
        for (var i = 0; i < paused.Length; i++)
        {
            var height = Math.Max(paused[i].PauseMs!.Value / longest * 30, 0.3);
            page.Append($"<rect class=\"{Class(paused[i].Outcome)}\" x=\"{Number((i * width) + (width * 0.1))}\" y=\"{Number(30 - height)}\" width=\"{Number(Math.Min(width * 0.8, 6))}\" height=\"{Number(height)}\"><title>{Time(paused[i].Started)}: {Milliseconds(paused[i].PauseMs!.Value)}</title></rect>");
        }

        page.Append("</svg></article>\n");
    }

    private static void Update(StringBuilder page, UpdateReport update)
    {
        page.Append($"""
            <article><header class="u"><h2>{Version(update.From)} → {Version(update.To)}</h2><span class="tag {Class(update.Outcome)}">{Text(Words(update.Outcome))}</span>
            <span class="num">{(update.PauseMs is { } pause ? $"pause <b>{Milliseconds(pause)}</b>, " : "no pause, ")}total {Milliseconds(update.TotalMs)}</span>
            <span class="soft">{Time(update.Started)}{(update.Engine is { } engine ? $", engine {Text(engine)}" : "")}</span></header>

            """);
        if (update.Error is { } error)
            page.Append($"<p class=\"{Class(update.Outcome)}\">{Text(error.Message)}</p>{(error.Fix.Length > 0 ? $"<p class=\"soft\">{Text(error.Fix)}</p>" : "")}\n");
        if (!update.Phases.IsEmpty)
            Timelines(page, update);
        Details(page, update);
        page.Append("</article>\n");
    }

    private static void Timelines(StringBuilder page, UpdateReport update)
    {
        var lanes = UpdateLanes.Of(update);
        page.Append("<h3>The whole update</h3>\n");
        Timeline(page, lanes, 0, lanes.End);
        if (lanes.Paused is var (from, to) && to > from)
        {
            page.Append("<h3>The pause, magnified</h3>\n");
            Timeline(page, lanes, from, to);
        }

    }

    private static void Timeline(StringBuilder page, UpdateLanes lanes, double from, double to)
    {
        foreach (var (name, pieces) in lanes.All)
        {
            page.Append($"<div class=\"lane\"><span>{Text(name)}</span><div class=\"bar\">");
            foreach (var piece in pieces)
            {
                var (start, end) = (Math.Max(piece.From, from), Math.Min(piece.To, to));
                if (end < start || to <= from || (end == start && piece.To > piece.From))
                    continue;
                var (left, width) = ((start - from) / (to - from) * 100, (end - start) / (to - from) * 100);
                page.Append($"<i class=\"{piece.Kind}\" style=\"left:{Number(left)}%;width:{Number(width)}%\" title=\"{Text(piece.Title)}\">{(width > piece.Name.Length * 1.3 ? Text(piece.Name) : "")}</i>");
            }

            page.Append("</div></div>\n");
        }

        page.Append($"<div class=\"scale num\"><span>{Milliseconds(from)}</span><span>{Milliseconds(to)}</span></div>\n");
    }

    private static void Details(StringBuilder page, UpdateReport update)
    {
        page.Append("<details><summary>Phases, processes and findings</summary><div class=\"scroll\"><table><tr><th>phase</th><th class=\"num\">begins</th><th class=\"num\">takes</th></tr>");
        foreach (var phase in update.Phases)
            page.Append($"<tr><td>{Text(Name(phase.Name))}</td><td class=\"num\">{Milliseconds(phase.StartMs)}</td><td class=\"num\">{Milliseconds(phase.DurationMs)}</td></tr>");
        page.Append("</table><table><tr><th></th><th>QEMU</th><th class=\"num\">PID</th><th>binary</th></tr>");
        foreach (var (which, end) in new[] { ("from", update.From), ("to", update.To) })
            page.Append($"<tr><td>{which}</td><td>{Text(end.Version)}</td><td class=\"num\">{(end.Pid > 0 ? $"{end.Pid}" : "–")}</td><td><code>{Text(end.Binary)}</code></td></tr>");
        page.Append("</table>");
        if (update.Findings.Any(f => f.Severity != Severity.Pass))
        {
            page.Append("<table><tr><th>finding</th><th>object</th><th>evidence</th></tr>");
            foreach (var finding in update.Findings.Where(f => f.Severity != Severity.Pass))
                page.Append($"<tr><td class=\"{(finding.Severity == Severity.Fail ? "bad" : "warn")}\">{Text(finding.Id)}</td><td>{Text(finding.Object)}</td><td>{Text(finding.Evidence)}{(finding.Fix.Length > 0 ? $" <span class=\"soft\">{Text(finding.Fix)}</span>" : "")}</td></tr>");
            page.Append("</table>");
        }

        page.Append("</div></details>");
    }

    internal static string Name(UpdatePhase phase) => phase.ToString().ToLowerInvariant();

    private static string Words(UpdateOutcome outcome) => outcome switch
    {
        UpdateOutcome.RolledBack => "failed, resumed on the old QEMU",
        UpdateOutcome.Failed => "failed, never left the old QEMU",
        UpdateOutcome.Unknown => "state unknown",
        _ => outcome.ToString().ToLowerInvariant(),
    };

    private static string Class(UpdateOutcome outcome) => outcome switch
    {
        UpdateOutcome.Updated or UpdateOutcome.Planned => "ok",
        UpdateOutcome.Unknown => "bad",
        _ => "warn",
    };

    private static string Version(VmmEnd end) => Text(end.Version.Length > 0 ? end.Version : end.Binary);

    internal static string Milliseconds(double ms) => ms switch
    {
        0 => "0 ms",
        < 100 => FormattableString.Invariant($"{ms:0.00} ms"),
        < 10_000 => FormattableString.Invariant($"{ms:0} ms"),
        _ => FormattableString.Invariant($"{ms / 1000:0.0} s"),
    };

    private static string Number(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private static string Time(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
