using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>State directories that are not there, not there any more, or full. The guest does not care.</summary>
public sealed class StateDirectoryTests
{
    [Fact]
    public async Task OneThatIsMissingIsMade()
    {
        await using var host = new TestHost();
        Assert.False(Directory.Exists(host.State));
        (await host.CprSharpAsync("list")).Expect(0);
        var vm = await TestVm.StartAsync(host, "first", [Components.Qemu111, .. TestVm.Bare]);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(vm.Directory));
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
    }

    [Fact]
    public async Task OneThatCannotBeMadeIsAnErrorThatNamesIt()
    {
        await using var host = new TestHost();
        var path = Path.Combine(host.Script("file", ""), "state");
        var result = await host.CprSharpAsync(["run", "--name", "none", "--state-dir", path, "--", Components.Qemu111, .. TestVm.Bare]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains($"directory {path}/none cannot be made", result.Errors, StringComparison.Ordinal);
        Assert.Contains("--state-dir", result.Errors, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Errors, StringComparison.Ordinal);
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task OneThatGoesWhileTheVmRunsTakesNothingWithIt()
    {
        await using var host = new TestHost();
        using var run = host.Start(null, ["run", "--name", "gone", "--", Components.Qemu111, .. TestVm.Bare]);
        var vm = new TestVm(host, "gone");
        await Deadlines.EventuallyAsync(() => File.Exists(vm.QmpSocket) ? null : "it does not start", Deadlines.Program);
        await using var client = await vm.ConnectAsync();

        // It starts last: a VM that still starts does not without its directory.
        await Deadlines.EventuallyAsync(() => host.Processes().Any(p => p.Arguments.Contains("cprsharp-guardian")) ? null : "no guardian");
        Directory.Delete(vm.Directory, recursive: true);

        Assert.Equal(1, (await host.CprSharpAsync("update", vm.Name, "--to", Components.Qemu111)).ExitCode);
        var report = await client.ExecuteAsync("__org.cprsharp_update", new() { ["to"] = Components.Qemu111 }).WaitAsync(Deadlines.Program);
        Assert.Equal("refused", report.GetProperty("outcome").GetString());
        Assert.Contains("state-directory-missing", Documents.FindingIds(report));
        Assert.Equal("running", (await client.ExecuteAsync("query-status").WaitAsync(Deadlines.Settle)).GetProperty("status").GetString());

        run.Signal(15);
        (await run.ResultAsync()).Expect(0);
        await host.ExpectNothingLeftAsync();
    }

    [Theory]
    [InlineData("pause.begin:error")]
    [InlineData("transfer.begin:kill")]
    [InlineData("commit.end:kill")]
    [InlineData("")]
    public async Task OneThatFillsUpInAnUpdateHarmsNoGuest(string fault)
    {
        await using var host = new TestHost();
        Directory.CreateDirectory(host.State);
        await MountAsync(host, "mount", "-t", "tmpfs", "-o", "size=8m", "none", host.State);
        host.OnDispose(() => MountAsync(host, "umount", "-l", host.State));
        var vm = await TestVm.StartAsync(host, "full", [Components.Qemu111, .. TestVm.Bare]);

        using var update = vm.StartUpdate(Components.Qemu111, fault: fault.Length == 0 ? null : fault);
        await vm.UntilUnderWayAsync("prepare");
        var ballast = Path.Combine(host.State, "ballast");
        Fill(ballast);
        var result = await update.ResultAsync();
        await Deadlines.EventuallyAsync(async () =>
        {
            try
            {
                return await vm.RunStateAsync() is var state and not "running" ? $"the guest is '{state}': {result}\n{vm.Logs()}" : null;
            }
            catch (IOException e)
            {
                return $"{e.Message}: {result}\n{vm.Logs()}";
            }
        });
        Assert.Single(host.Processes(), p => p.IsVmm);

        File.Delete(ballast);
        await vm.UpdateAsync(Components.Qemu111);
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    private static void Fill(string path)
    {
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        var size = 1 << 16;
        while (size > 0)
        {
            try
            {
                file.Write(new byte[size]);
            }
            catch (IOException)
            {
                size /= 2;
            }
        }
    }

    private static async Task MountAsync(TestHost host, string tool, params string[] arguments)
    {
        using var program = host.StartProgram($"/usr/bin/{tool}", null, null, arguments);
        (await program.ResultAsync()).Expect(0);
    }
}
