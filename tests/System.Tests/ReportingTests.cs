using System.Globalization;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Numbers and pages about VMs that were really updated.</summary>
public sealed class ReportingTests
{
    [Fact]
    public async Task NumbersAndAPageTellOfUpdatesOfEveryKind()
    {
        await using var host = new TestHost();
        Assert.Contains("cprsharp_vms{supervision=\"supervised\"} 0\n", (await host.CprSharpAsync("metrics")).Expect(0).Output, StringComparison.Ordinal);
        var vm = await TestVm.StartAsync(host, "counted", [Components.Qemu111, .. TestVm.Bare]);
        var empty = host.File("empty.html");
        (await host.CprSharpAsync("history", vm.Name, "--report", empty)).Expect(0);
        Assert.Contains("has not been updated", await File.ReadAllTextAsync(empty), StringComparison.Ordinal);

        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await vm.UpdateAsync(Components.Qemu111, "shared-ram");
        await vm.UpdateAsync(Components.Qemu111, exitCode: 4, fault: "commit.begin");
        await vm.UpdateAsync(host.File("absent"), exitCode: 3);

        var file = host.File("cprsharp.prom");
        await File.WriteAllTextAsync(file, "old");
        (await host.CprSharpAsync("metrics", "--textfile", file)).Expect(0);
        var text = await File.ReadAllTextAsync(file);
        Assert.Empty(Directory.GetFiles(host.Root, "*.new"));
        foreach (var (outcome, count) in new[] { ("updated", 2), ("rolled_back", 1), ("refused", 1), ("failed", 0), ("unknown", 0) })
            Assert.Contains($"cprsharp_updates_total{{vm=\"counted\",outcome=\"{outcome}\"}} {count}\n", text, StringComparison.Ordinal);
        Assert.Contains("cprsharp_update_pause_seconds_count{vm=\"counted\"} 3\n", text, StringComparison.Ordinal);
        Assert.Contains("cprsharp_vm_supervised{vm=\"counted\"} 1\n", text, StringComparison.Ordinal);
        Assert.True(Value(text, "cprsharp_supervisor_resident_memory_bytes{vm=\"counted\"}") > 1 << 20);

        var page = host.File("report.html");
        (await host.CprSharpAsync("history", vm.Name, "--report", page)).Expect(0);
        var html = await File.ReadAllTextAsync(page);
        Assert.Equal(4, html.Split("<article><header").Length - 1);
        Assert.Equal(3, html.Split("The pause, magnified").Length - 1);

        await TestHost.EndAsync(vm.SupervisorPid);
        await Deadlines.EventuallyAsync(async () =>
            (await host.CprSharpAsync("metrics")).Output.Contains("cprsharp_vm_supervised{vm=\"counted\"} 1", StringComparison.Ordinal) ? null : "the guardian did not take over");
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    private static double Value(string text, string sample) =>
        double.Parse(text.Split('\n').Single(l => l.StartsWith(sample + " ", StringComparison.Ordinal))[(sample.Length + 1)..], CultureInfo.InvariantCulture);
}
