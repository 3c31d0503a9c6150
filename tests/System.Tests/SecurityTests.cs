using System.Security.Cryptography;
using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Who may ask what of a supervisor, which binaries it takes, and what its VMMs are given.</summary>
public sealed class SecurityTests
{
    private const string Nobody = "65534";
    private const string Group = "60"; // games

    [Fact]
    public async Task OnlyTheOwnerAndTheGroupAreAnswered()
    {
        await using var host = new TestHost();
        var alone = await TestVm.StartAsync(host, "alone", [Components.Qemu111, .. TestVm.Bare]);
        var shared = await TestVm.StartAsync(host, "shared", [Components.Qemu111, .. TestVm.Bare], Settings(("Group", Group)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(alone.Directory));
        Assert.Equal(
            UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.GroupExecute,
            File.GetUnixFileMode(shared.Directory));
        Assert.Equal(
            UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite, File.GetUnixFileMode(shared.QmpSocket));

        Assert.Equal("supervised", await SupervisionAsync(shared, "--groups", Group));
        Assert.NotEqual("supervised", await SupervisionAsync(shared, "--clear-groups"));
        Assert.NotEqual("supervised", await SupervisionAsync(alone, "--groups", Group));

        // Whatever the modes of file and directory say, it is who connects that counts.
        File.SetUnixFileMode(shared.Directory, (UnixFileMode)0b111_101_101);
        File.SetUnixFileMode(shared.QmpSocket, (UnixFileMode)0b110_110_110);
        Assert.Equal("unsupervised", await SupervisionAsync(shared, "--clear-groups"));
        Assert.Equal("supervised", await SupervisionAsync(shared, "--groups", Group));
        await alone.QuitAsync();
        await shared.QuitAsync();
        await host.ExpectNothingLeftAsync();

        async Task<string> SupervisionAsync(TestVm vm, params string[] groups)
        {
            using var status = AsNobody(host, groups, "status", vm.Name, "--json");
            var result = await status.ResultAsync();
            return result.ExitCode == 0 ? result.Document.GetProperty("vms")[0].GetProperty("supervision").GetString()! : "";
        }
    }

    [Fact]
    public async Task OnlyAllowedBinariesWithTheRightContentAreTaken()
    {
        await using var host = new TestHost();
        var wrapper = host.Script("qemu-wrapper", $"exec {Components.Qemu111} \"$@\"");
        var digest = Convert.ToHexStringLower(SHA256.HashData(await File.ReadAllBytesAsync(Components.Qemu111)));
        var vm = await TestVm.StartAsync(host, "pinned", [Components.Qemu100, .. TestVm.Bare], Settings(
            ("Binaries__0", Path.GetDirectoryName(Components.Qemu111)! + "/"),
            ("Binaries__1", "/usr/bin/qemu-system-*"),
            ($"Sha256__{Components.Qemu111}", digest),
            ($"Sha256__{Components.Qemu72}", new string('0', 64))));
        var vmm = vm.VmmPid;
        foreach (var (to, code) in new[] { (wrapper, "binary-not-allowed"), (Components.Qemu100, "binary-not-allowed"), (Components.Qemu72, "binary-hash") })
        {
            var check = (await host.CprSharpAsync("check", vm.Name, "--to", to, "--json")).Expect(3).Document;
            Documents.ExpectCheckReport(check, vm.Name, "blocked");
            Assert.Contains(code, Documents.FindingIds(check));
            var update = await vm.UpdateAsync(to, exitCode: 3);
            Assert.Equal(code, update.GetProperty("error").GetProperty("code").GetString());
            Assert.Contains(code, Documents.FindingIds(update));
        }

        // A way round by a symbolic link is none, and one by another name of an allowed file is fine.
        File.CreateSymbolicLink(host.File("link"), Components.Qemu111);
        (await host.CprSharpAsync("check", vm.Name, "--to", host.File("link"))).Expect(0);
        Assert.Equal(vmm, vm.VmmPid);
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        Assert.Equal(Components.Qemu111, ProcFs.ExecutablePath(vm.VmmPid));
        Assert.Equal(Components.Qemu111, ProcFs.CommandLine(vm.VmmPid)[0]);
        await vm.UpdateAsync(Components.Qemu111, "shared-ram");
        var rollback = (await host.CprSharpAsync("reexec", vm.Name, "--to", wrapper, "--json")).Expect(3).Document;
        Assert.Equal("binary-not-allowed", rollback.GetProperty("error").GetProperty("code").GetString());
        (await host.CprSharpAsync("reexec", vm.Name)).Expect(0);
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        await vm.ExpectOneRunningVmmAsync();
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    [Theory]
    [InlineData("Group", "no-such-group")]
    [InlineData("Binaries__0", "qemu-system-x86_64")]
    [InlineData("Binaries__0", "/usr/../bin/")]
    [InlineData("Sha256__/usr/bin/qemu", "1234")]
    public async Task ASettingThatMeansNothingIsRefused(string name, string value)
    {
        await using var host = new TestHost();
        var result = await host.CprSharpAsync(Settings((name, value)), ["run", "--name", "never", "--detach", "--", Components.Qemu111, .. TestVm.Bare]);
        Assert.Contains($"Security:{name.Split("__")[0]}", result.Expect(78).Errors, StringComparison.Ordinal);
        await host.ExpectNothingLeftAsync();
    }

    [Fact]
    public async Task WithoutRootARunAnUpdateAndARollbackWork()
    {
        await using var host = new TestHost();
        foreach (var directory in new[] { host.State, host.Temporary })
        {
            Directory.CreateDirectory(directory);
            File.SetUnixFileMode(directory, (UnixFileMode)0b111_111_111);
        }

        // QEMU 7.2 is where everybody can execute it.
        await AsNobodyAsync(0, "run", "--name", "plain", "--detach", "--", Components.Qemu72, "-M", "pc-q35-7.2", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none",
            "-serial", $"unix:{host.Temporary}/serial,server=on,wait=off");
        var vm = new TestVm(host, "plain");
        Assert.Equal(uint.Parse(Nobody), ProcFs.Status(vm.SupervisorPid).UserIds.Effective);
        Assert.Equal(uint.Parse(Nobody), ProcFs.Status(vm.VmmPid).UserIds.Effective);
        var vmm = vm.VmmPid;
        await AsNobodyAsync(0, "update", vm.Name, "--to", Components.Qemu72);
        Assert.NotEqual(vmm, vm.VmmPid);
        await AsNobodyAsync(0, "reexec", vm.Name);
        await AsNobodyAsync(0, "rollback", vm.Name);
        Assert.Equal("running", await vm.RunStateAsync());
        await vm.QuitAsync();

        async Task AsNobodyAsync(int exitCode, params string[] arguments)
        {
            using var program = AsNobody(host, ["--clear-groups"], arguments);
            (await program.ResultAsync()).Expect(exitCode);
        }
    }

    [Fact]
    public async Task AVmmHasNoDescriptorThatIsNotMeantForIt()
    {
        await using var host = new TestHost();
        var disk = host.File("disk");
        await using (var file = File.Create(disk))
            file.SetLength(1 << 20);
        var vm = await TestVm.StartAsync(host, "lean",
        [
            Components.Qemu111, .. TestVm.Bare, "-serial", $"unix:{host.File("serial")},server=on,wait=off", "-monitor", $"unix:{host.File("hmp")},server=on,wait=off",
            "-drive", $"if=virtio,file={disk},format=raw", "-vnc", $"unix:{host.File("vnc")}",
        ]);
        await using var client = await vm.ConnectAsync();
        using var serial = UnixSocket.Connect(host.File("serial"));
        ExpectExplained(vm, disk);
        foreach (var engine in new[] { "transfer", "shared-ram" })
        {
            await vm.UpdateAsync(Components.Qemu111, engine);
            ExpectExplained(vm, disk);
        }

        (await host.CprSharpAsync("reexec", vm.Name)).Expect(0);
        await vm.UpdateAsync(Components.Qemu111, "transfer");
        ExpectExplained(vm, disk);
        await vm.QuitAsync();
        await host.ExpectNothingLeftAsync();
    }

    /// <summary>Each is one that it was given by number, or one of a kind that QEMU makes for itself; and none but the given ones is the supervisor's.</summary>
    private static void ExpectExplained(TestVm vm, string disk)
    {
        const int monitor = 190;
        int[] given = [0, 1, 2, monitor, .. vm.Record.GetProperty("spec").GetProperty("descriptors").EnumerateArray().Select(d => d.GetProperty("number").GetInt32())];
        var supervisor = ProcFs.Descriptors(vm.SupervisorPid).Where(d => !IsAnonymous(d)).Select(Identity).ToHashSet();
        var memory = ProcFs.Descriptors(vm.VmmPid).Where(d => given.Contains(d.Number) && d.Info.Kind == DescriptorKind.Memfd).Select(Identity).ToHashSet();
        var strange = ProcFs.Descriptors(vm.VmmPid).Where(d => !given.Contains(d.Number)).Where(d =>
            IsAnonymous(d) ? d.Info.Kind is not (DescriptorKind.EventFd or DescriptorKind.EventPoll or DescriptorKind.SignalFd or DescriptorKind.IoUring)
            : supervisor.Contains(Identity(d)) ? !IsConsole(d) && !memory.Contains(Identity(d)) // guest RAM, which QEMU opens once more by its name
            : !(d.Info.Path == disk || d.Info.Kind is DescriptorKind.Socket or DescriptorKind.Memfd || d.Info.Path.StartsWith("/memfd:", StringComparison.Ordinal)));
        Assert.Empty(strange.Select(d => $"{d.Number}: {d.Info.Kind} {d.Info.Path}"));

        // The supervisor holds the VMM's end of a console's connection, too, so that it can take back what is not read.
        static bool IsConsole(DescriptorEntry d) => d.Info.Kind == DescriptorKind.Socket;
        static bool IsAnonymous(DescriptorEntry d) => d.Info.Path.StartsWith("anon_inode:", StringComparison.Ordinal);
        static (DeviceNumber, ulong) Identity(DescriptorEntry d) => (d.Info.Device, d.Info.Inode);
    }

    private static RunningProgram AsNobody(TestHost host, string[] groups, params string[] arguments) => host.StartProgram(
        "/usr/bin/setpriv", null, "/", ["--reuid", Nobody, "--regid", Nobody, .. groups, Components.CprSharp, .. arguments]);

    private static Dictionary<string, string> Settings(params (string Name, string Value)[] settings) =>
        settings.ToDictionary(s => $"CPRSHARP__Security__{s.Name}", s => s.Value, StringComparer.Ordinal);
}
