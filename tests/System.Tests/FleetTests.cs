using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Many VMs at once.</summary>
public sealed class FleetTests
{
    private const int Vms = 10;
    private static readonly string[] Unmovable = ["vm2", "vm5"];

    [Fact]
    public async Task AllAreUpdatedAFewAtATimeUntilTooManyFailAndAgainOnlyThoseThatWereNot()
    {
        await using var host = new TestHost();
        var vms = new List<TestVm>();
        for (var i = 0; i < Vms; i++)
            vms.Add(await TestVm.StartAsync(host, $"vm{i}", [Components.Qemu100, .. TestVm.Bare, .. Unmovable.Contains($"vm{i}") ? ["-device", "edu"] : Array.Empty<string>()]));

        // One at a time, so that it is known which was begun before the failure.
        await ExpectAsync(["--parallel", "1", "--max-failures", "1"], vm => vm < 2 ? "updated" : vm == 2 ? "refused" : "notStarted");
        await ExpectAsync(["--parallel", "1", "--max-failures", "2"], vm => vm < 2 ? "alreadyThere" : vm is 2 or 5 ? "refused" : vm < 5 ? "updated" : "notStarted");
        var rest = await ExpectAsync(["--parallel", "3", "--max-failures", "3"], vm => vm is 2 or 5 ? "refused" : vm < 5 ? "alreadyThere" : "updated");
        Assert.InRange(MostAtATime(rest), 2, 3);

        foreach (var name in Unmovable)
            await vms.Single(v => v.Name == name).QuitAsync();
        var lines = (await host.CprSharpAsync("update", "--all", "--to", Components.Qemu111)).Expect(0).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Single(lines, l => l.Contains("OUTCOME", StringComparison.Ordinal));
        foreach (var vm in vms.Where(v => !Unmovable.Contains(v.Name)))
            Assert.Single(lines, l => l.TrimStart().StartsWith($"{vm.Name} ", StringComparison.Ordinal) && l.Contains("already there", StringComparison.Ordinal));
        Assert.StartsWith($"{Vms - Unmovable.Length} VMs in ", lines[^1], StringComparison.Ordinal);
        (await host.CprSharpAsync("update", "vm0", "--all", "--to", Components.Qemu111)).Expect(2);
        foreach (var vm in vms.Where(v => !Unmovable.Contains(v.Name)))
            await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();

        async Task<JsonElement> ExpectAsync(string[] options, Func<int, string> outcome)
        {
            var pids = vms.ConvertAll(v => v.VmmPid);
            var fleet = (await host.CprSharpAsync(["update", "--all", "--to", Components.Qemu111, "--json", .. options])).Expect(3).Document;
            var outcomes = Outcomes(fleet);
            for (var i = 0; i < Vms; i++)
            {
                Assert.Equal($"vm{i} {outcome(i)}", $"vm{i} {outcomes[$"vm{i}"]}");
                Assert.Equal(outcome(i) == "updated", pids[i] != vms[i].VmmPid);
                Assert.Equal("running", await vms[i].RunStateAsync());
            }

            return fleet;
        }
    }

    /// <summary>Of the updates that were made.</summary>
    private static int MostAtATime(JsonElement fleet)
    {
        var updates = fleet.GetProperty("vms").EnumerateArray().Where(v => v.GetProperty("outcome").GetString() == "updated").Select(v => v.GetProperty("update"))
            .Select(u => (Began: u.GetProperty("started").GetDateTimeOffset(), Took: TimeSpan.FromMilliseconds(u.GetProperty("totalMs").GetDouble())))
            .ToArray();
        return updates.Max(u => updates.Count(o => o.Began <= u.Began && u.Began < o.Began + o.Took));
    }

    private static Dictionary<string, string> Outcomes(JsonElement fleet)
    {
        Assert.Equal(1, fleet.GetProperty("schema").GetInt32());
        foreach (var vm in fleet.GetProperty("vms").EnumerateArray())
        {
            if (vm.GetProperty("update") is { ValueKind: JsonValueKind.Object } update)
                Documents.ExpectUpdateReport(update, vm.GetProperty("vm").GetString()!, vm.GetProperty("outcome").GetString() == "updated" ? 0 : 3);
        }

        return fleet.GetProperty("vms").EnumerateArray().ToDictionary(v => v.GetProperty("vm").GetString()!, v => v.GetProperty("outcome").GetString()!, StringComparer.Ordinal);
    }
}
