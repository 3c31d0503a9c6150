using System.Collections.Immutable;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using CprSharp.VmmUpdate.Reporting;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.History;

public sealed partial class HistoryPageTests
{
    private const string Evil = "<script>alert('x')</script>&\"";

    [Fact]
    public void Nothing_is_loaded_from_elsewhere_and_nothing_runs()
    {
        var page = Page(Updated(), Failed());

        Assert.DoesNotMatch(Foreign(), page);
        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("prefers-color-scheme:dark", page, StringComparison.Ordinal);
        Assert.Contains("name=\"viewport\"", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Whatever_a_report_holds_is_text()
    {
        var update = Updated() with
        {
            Engine = Evil,
            From = new VmmEnd(Evil, Evil, 1),
            Error = new ReportError(Evil, Evil, Evil),
            Findings = [Finding.Warn(Evil, Evil, Evil, Evil)],
        };
        var page = HistoryPage.Render(new HistoryDocument(1, Evil, [update]), DateTimeOffset.UnixEpoch);

        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Body(page);
    }

    [Fact]
    public void Every_bar_lies_within_its_timeline()
    {
        foreach (var bar in Body(Page(Updated(), Failed())).Descendants("i").Select(i => (string?)i.Attribute("style")).OfType<string>())
        {
            var match = Place().Match(bar);
            Assert.True(match.Success, bar);
            var (left, width) = (double.Parse(match.Groups["left"].Value, null), double.Parse(match.Groups["width"].Value, null));
            Assert.InRange(left, 0, 100);
            Assert.InRange(left + width, 0, 100.01);
        }
    }

    [Fact]
    public void The_guest_is_on_one_QEMU_at_a_time()
    {
        var lanes = UpdateLanes.Of(Updated());
        var old = Assert.Single(lanes.All.Single(l => l.Name == "old QEMU").Pieces, p => p.Kind == "old");
        var fresh = Assert.Single(lanes.All.Single(l => l.Name == "new QEMU").Pieces, p => p.Kind == "new");

        Assert.Equal(lanes.Paused!.Value.From, old.To);
        Assert.Equal(lanes.Paused!.Value.To, fresh.From);
        Assert.DoesNotContain(UpdateLanes.Of(Failed()).All.Single(l => l.Name == "new QEMU").Pieces, p => p.Kind == "new");
    }

    [Fact]
    public void A_VM_without_updates_has_a_page_too() => Body(HistoryPage.Render(new HistoryDocument(1, "vm", []), DateTimeOffset.UnixEpoch));

    private static string Page(params ImmutableArray<UpdateReport> updates) => HistoryPage.Render(new HistoryDocument(1, "web1", updates), DateTimeOffset.UnixEpoch);

    /// <summary>The page is well-formed but for what HTML does without.</summary>
    private static XElement Body(string page)
    {
        var body = page[page.IndexOf("<body>", StringComparison.Ordinal)..page.IndexOf("</html>", StringComparison.Ordinal)];
        return XElement.Parse(body);
    }

    private static UpdateReport Updated() => new()
    {
        Vm = "web1",
        Outcome = UpdateOutcome.Updated,
        Engine = "transfer",
        From = new VmmEnd("10.0.13", "/usr/bin/qemu", 10),
        To = new VmmEnd("11.1.3", "/opt/qemu", 11),
        PauseMs = 7.31,
        TotalMs = 412,
        Started = DateTimeOffset.UnixEpoch,
        Phases = [new(UpdatePhase.Inspect, 0, 20), new(UpdatePhase.Plan, 20, 1), new(UpdatePhase.Prepare, 21, 340), new(UpdatePhase.Pause, 361, 2), new(UpdatePhase.Transfer, 363, 4), new(UpdatePhase.Verify, 367, 1), new(UpdatePhase.Commit, 368, 1), new(UpdatePhase.Retire, 369, 43)],
    };

    private static UpdateReport Failed() => Updated() with
    {
        Outcome = UpdateOutcome.RolledBack,
        Error = new ReportError("fault", "made to fail", ""),
        Phases = [new(UpdatePhase.Inspect, 0, 20), new(UpdatePhase.Prepare, 20, 300), new(UpdatePhase.Pause, 320, 3), new(UpdatePhase.Rollback, 323, 20)],
    };

    [GeneratedRegex("(src|href)=|url\\(|@import|https?://", RegexOptions.None, 1000)]
    private static partial Regex Foreign();

    [GeneratedRegex("^left:(?<left>[0-9.]+)%;width:(?<width>[0-9.]+)%$", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex Place();
}
