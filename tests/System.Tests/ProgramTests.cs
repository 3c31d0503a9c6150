using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>The program's manners, and the shortest life of a VM.</summary>
public sealed class ProgramTests
{
    [Fact]
    public async Task AVmIsRunCheckedUpdatedRolledBackAndEnds()
    {
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "thin", [Components.Qemu111, .. TestVm.Bare]);
        await vm.ExpectOneRunningVmmAsync();

        var check = await host.CprSharpAsync("check", "thin", "--to", Components.Qemu111, "--json");
        Documents.ExpectCheckReport(check.Expect(0).Document, "thin", "ready");

        var report = await vm.UpdateAsync(Components.Qemu111);
        Assert.Equal("updated", report.GetProperty("outcome").GetString());
        Assert.True(report.GetProperty("pauseMs").GetDouble() > 0);
        Assert.Equal(vm.VmmPid, report.GetProperty("to").GetProperty("pid").GetInt32());
        Assert.NotEqual(vm.VmmPid, report.GetProperty("from").GetProperty("pid").GetInt32());
        await vm.ExpectOneRunningVmmAsync();

        Documents.ExpectUpdateReport((await host.CprSharpAsync("rollback", "thin", "--json")).Expect(0).Document, "thin", 0);
        await vm.ExpectOneRunningVmmAsync();

        var history = (await host.CprSharpAsync("history", "thin", "--json")).Expect(0).Document;
        Assert.Equal(2, history.GetProperty("updates").GetArrayLength());
        var status = (await host.CprSharpAsync("status", "thin", "--json")).Expect(0).Document.GetProperty("vms")[0];
        Assert.Equal("running", status.GetProperty("runState").GetString());
        Assert.Equal("pc-q35-10.0", status.GetProperty("machineType").GetString());

        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }
}
