using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Many VMs at once.</summary>
public sealed class FleetTests
{
    private const int Vms = 10;

    [Fact]
    public async Task AllAreUpdatedAFewAtATimeAndAgainOnlyThoseThatFailed()
    {
        await using var host = new TestHost();
        var vms = new List<TestVm>();
        for (var i = 0; i < Vms; i++)
            vms.Add(await TestVm.StartAsync(host, $"vm{i}", [Components.Qemu100, .. TestVm.Bare, .. i == 4 ? ["-device", "edu"] : Array.Empty<string>()])); // which no QEMU moves
        var first = (await AllAsync("--parallel", "3", "--max-failures", "1")).Expect(3).Document;
        var outcomes = Outcomes(first);
        Assert.Equal("refused", outcomes["vm4"]);
        Assert.All(outcomes.Where(o => o.Key != "vm4"), o => Assert.True(o.Value is "updated" or "notStarted", $"{o}"));
        Assert.All(["vm0", "vm1", "vm2", "vm3"], vm => Assert.Equal("updated", outcomes[vm]));

        var updated = outcomes.Where(o => o.Value == "updated").Select(o => o.Key).ToHashSet();
        var pids = vms.ToDictionary(v => v.Name, v => v.VmmPid);
        var second = Outcomes((await AllAsync("--parallel", "4", "--max-failures", "5")).Expect(3).Document);
        foreach (var vm in vms)
        {
            Assert.Equal(vm.Name == "vm4" ? "refused" : updated.Contains(vm.Name) ? "alreadyThere" : "updated", second[vm.Name]);
            Assert.Equal(updated.Contains(vm.Name) || vm.Name == "vm4", pids[vm.Name] == vm.VmmPid);
        }

        await vms[4].QuitAsync();
        var text = (await host.CprSharpAsync("update", "--all", "--to", Components.Qemu111)).Expect(0).Output;
        Assert.Equal(Vms - 1, text.Split("already there").Length - 2);
        Assert.Contains($"{Vms - 1} VMs in ", text, StringComparison.Ordinal);
        (await host.CprSharpAsync("update", "vm0", "--all", "--to", Components.Qemu111)).Expect(2);
        foreach (var vm in vms.Where(v => v != vms[4]))
            await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();

        Task<ProgramResult> AllAsync(params string[] options) => host.CprSharpAsync(["update", "--all", "--to", Components.Qemu111, "--json", .. options]);
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
