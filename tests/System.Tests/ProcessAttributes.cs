using System.Globalization;
using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>What an operator did to the running VMM from outside is done to the next one too.</summary>
public sealed class ProcessAttributes
{
    [Fact]
    public async Task TheNewVmmIsAsTheOldOneWasMade()
    {
        await using var host = new TestHost();
        var directory = Directory.CreateDirectory(host.File("somewhere")).FullName;
        var vm = new TestVm(host, "attributes");
        var environment = new Dictionary<string, string>(StringComparer.Ordinal) { ["SOME_SETTING"] = "kept" };
        string[] line = [Components.Qemu111, .. TestVm.Bare, "-smp", "2"];
        using (var run = host.StartProgram(Components.CprSharp, environment, directory, ["run", "--name", vm.Name, "--detach", "--", .. line]))
            (await run.ResultAsync()).Expect(0);

        var old = vm.VmmPid;
        var cpus = Scheduling.GetAffinity(Environment.ProcessId);
        await File.WriteAllTextAsync($"/proc/{old}/oom_score_adj", "321");
        foreach (var thread in ProcFs.Threads(old))
            Scheduling.SetAttributes(thread, Scheduling.GetAttributes(thread) with { Nice = 3 });
        Scheduling.SetLimit(old, Resource.OpenFiles, new ResourceLimit(777, 888));
        Scheduling.SetAffinity(old, [cpus[0]]);
        var vcpus = await VcpusAsync(vm);
        Scheduling.SetAffinity(vcpus[0], [cpus[0]]);
        Scheduling.SetAffinity(vcpus[1], [cpus[^1]]);
        Scheduling.SetAttributes(vcpus[1], Scheduling.GetAttributes(vcpus[1]) with { Nice = 7 });
        var cgroup = MoveToOwnCgroup(host, old);
        var before = await LookAsync(vm);
        Assert.Equal("kept", before.Setting);
        Assert.Equal(directory, before.Directory);

        foreach (var (to, engine) in new[] { (Components.Qemu111, "transfer"), (Components.Qemu100, "shared-ram"), (Components.Qemu111, "transfer") })
        {
            await vm.UpdateAsync(to, engine);
            Assert.Equivalent(before, await LookAsync(vm), strict: true);
            Assert.True(cgroup is null || ProcFs.Cgroups(vm.VmmPid).Any(c => c.Path.EndsWith(cgroup, StringComparison.Ordinal)), $"the new VMM is not in {cgroup}");
        }

        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Whoever adopts a VM may have another directory and environment than whoever started it.</summary>
    [Fact]
    public async Task WhatWasAdoptedFromElsewhereKeepsItsDirectoryAndEnvironment()
    {
        await using var host = new TestHost();
        var directory = Directory.CreateDirectory(host.File("somewhere")).FullName;
        var vm = new TestVm(host, "moved");
        var environment = new Dictionary<string, string>(SharedVm.Environment(guardian: false), StringComparer.Ordinal) { ["SOME_SETTING"] = "kept" };
        using (var run = host.StartProgram(Components.CprSharp, environment, directory, ["run", "--name", vm.Name, "--detach", "--", Components.Qemu111, .. TestVm.Bare]))
            (await run.ResultAsync()).Expect(0);
        await TestHost.EndAsync(vm.SupervisorPid);
        environment["SOME_SETTING"] = "another";
        using (var adopt = host.StartProgram(Components.CprSharp, environment, "/", ["adopt", vm.Name]))
            (await adopt.ResultAsync()).Expect(0);

        await vm.UpdateAsync(Components.Qemu111);
        var after = await LookAsync(vm);
        Assert.Equal("kept", after.Setting);
        Assert.Equal(directory, after.Directory);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Such a VMM cannot reach the supervisor's directory: that is said before anything is touched.</summary>
    [Fact]
    public async Task AVmmThatGaveUpItsPrivilegesIsRefusedByName()
    {
        Assert.True(Environment.UserName == "root", "only root can start a VMM that changes its user");
        await using var host = new TestHost();
        var vm = await TestVm.StartAsync(host, "runas", [Components.Qemu111, .. TestVm.Bare, "-run-with", "user=nobody"]);
        var pid = vm.VmmPid;
        Assert.NotEqual(0u, ProcFs.Status(pid).UserIds.Effective);
        foreach (var to in new[] { Components.Qemu100, Components.Qemu111 })
        {
            var report = await vm.UpdateAsync(to, exitCode: 3);
            Assert.Contains("privileges", Documents.FindingIds(report));
            Assert.Contains("-run-with", report.GetProperty("error").GetProperty("fix").GetString());
        }

        await vm.ExpectOneRunningVmmAsync();
        Assert.Equal(pid, vm.VmmPid);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    private sealed record Attributes(
        string Directory,
        string Setting,
        ProcessIds Users,
        ProcessIds Groups,
        IReadOnlyDictionary<Resource, ResourceLimit> Limits,
        int OomScore,
        IReadOnlyList<int> Affinity,
        SchedulingAttributes Scheduling,
        IReadOnlyList<(IReadOnlyList<int> Affinity, SchedulingAttributes Attributes)> Vcpus);

    private static async Task<Attributes> LookAsync(TestVm vm)
    {
        var pid = vm.VmmPid;
        var status = ProcFs.Status(pid);
        return new Attributes(
            ProcFs.Cwd(pid),
            ProcFs.Environment(pid).GetValueOrDefault("SOME_SETTING", ""),
            status.UserIds,
            status.GroupIds,
            ProcFs.Limits(pid),
            ProcFs.OomScoreAdjustment(pid),
            Scheduling.GetAffinity(pid),
            Scheduling.GetAttributes(pid),
            [.. (await VcpusAsync(vm)).Select(t => (Scheduling.GetAffinity(t), Scheduling.GetAttributes(t)))]);
    }

    private static async Task<int[]> VcpusAsync(TestVm vm) =>
        [.. (await vm.QmpAsync("query-cpus-fast")).EnumerateArray().OrderBy(c => c.GetProperty("cpu-index").GetInt32()).Select(c => c.GetProperty("thread-id").GetInt32())];

    /// <summary>Moves a process to a cgroup of its own, where this machine lets us make one; its path's end.</summary>
    private static string? MoveToOwnCgroup(TestHost host, int pid)
    {
        var name = $"cprsharp-{Path.GetFileName(host.Root)}";
        foreach (var root in new[] { "/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids" })
        {
            if (!File.Exists(Path.Combine(root, "cgroup.procs")))
                continue;
            var hierarchy = root.EndsWith("pids", StringComparison.Ordinal) ? "pids" : "";
            var own = ProcFs.Cgroups(pid).First(c => c.Controllers == hierarchy).Path;
            var group = Path.Join(root, own, name);
            try
            {
                Directory.CreateDirectory(group);
                host.OnDispose(async () => await Deadlines.EventuallyAsync(() =>
                {
                    try
                    {
                        Directory.Delete(group);
                        return null;
                    }
                    catch (IOException e)
                    {
                        return e.Message; // busy until the kernel has let the last process go
                    }
                }));
                File.WriteAllText(Path.Combine(group, "cgroup.procs"), pid.ToString(CultureInfo.InvariantCulture));
                return name;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Not ours to make here: the next hierarchy.
            }
        }

        return null;
    }
}
