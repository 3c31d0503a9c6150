using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>From a domain on plain QEMU to one that is live-updated.</summary>
public sealed class AdviceTests(LibvirtHost host)
{
    [Fact]
    public async Task An_ordinary_domain_becomes_one_that_can_be_updated_by_what_is_advised()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "ordinary", new DomainOptions { Emulator = LibvirtHost.OwnQemu, HasDisk = true });
        var check = (await host.TryAsync("cprsharp", "libvirt", "check", "ordinary", "--json")).Expect(3).Document;
        Assert.Equal("blocked", check.GetProperty("verdict").GetString());
        var failed = Assert.Single(check.GetProperty("findings").EnumerateArray(), f => f.GetProperty("severity").GetString() == "fail");
        Assert.Equal("emulator", failed.GetProperty("id").GetString());
        Assert.Contains(LibvirtHost.Emulator, check.GetProperty("xml").GetString());
        Assert.Contains("does not run", (await host.TryAsync("cprsharp", "libvirt", "adopt", "ordinary")).Expect(1).Errors);

        // As `adopt` says, word by word: saved, and restored under a supervisor.
        await domain.StartAsync();
        var adopt = (await host.TryAsync("cprsharp", "libvirt", "adopt", "ordinary")).Expect(3);
        Assert.Contains("libvirt holds its only QMP monitor", adopt.Errors);
        var commands = adopt.Errors.Split('\n').Select(l => l.Trim()).Where(l => l.StartsWith("cprsharp libvirt check --xml", StringComparison.Ordinal) || l.StartsWith("virsh ", StringComparison.Ordinal)).ToArray();
        Assert.Equal(4, commands.Length);
        var ticks = domain.Log.Reports()[^1].Ticks;
        foreach (var (command, exitCode) in commands.Zip([3, 0, 0, 0]))
            (await host.TryAsync("sh", "-c", $"cd {host.Shared}; {command}")).Expect(exitCode);
        Assert.Equal("running", await domain.StateAsync());
        await domain.Log.GoesOnAsync();
        Assert.True(domain.Log.Reports()[^1].Ticks > ticks);
        Assert.Equal(0, domain.Log.Reports()[^1].MemoryErrors);
        (await host.TryAsync("cprsharp", "libvirt", "adopt", "ordinary")).Expect(0);
        (await host.TryAsync("cprsharp", "check", "ordinary", "--to", Components.Qemu111)).Expect(0);
        (await host.TryAsync("cprsharp", "update", "ordinary", "--to", Components.Qemu111)).Expect(0);
        await domain.Log.GoesOnAsync();
        (await host.TryAsync("cprsharp", "libvirt", "check", "ordinary")).Expect(0);
    }

    [Fact]
    public async Task The_changed_XML_is_one_that_libvirt_takes_and_then_nothing_is_left_to_say()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "changed", new DomainOptions { Emulator = LibvirtHost.OwnQemu });
        var file = host.File("changed.new.xml");
        await File.WriteAllTextAsync(file, (await host.TryAsync("cprsharp", "libvirt", "check", "--xml", "changed")).Expect(3).Output);
        await host.VirshAsync("define", file);
        var check = (await host.TryAsync("cprsharp", "libvirt", "check", "changed", "--json")).Expect(0).Document;
        Assert.Equal("ready", check.GetProperty("verdict").GetString());
        Assert.Empty(check.GetProperty("changes").EnumerateArray());
        (await host.TryAsync("cprsharp", "libvirt", "check", file)).Expect(0);
    }

    /// <summary>libvirt 11.3 drops what it does not know of, and <c>iommufd</c> is of that kind.</summary>
    [Fact]
    public async Task A_passed_through_device_is_refused_with_what_this_libvirt_lacks()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "passed", new DomainOptions
        {
            Devices = "<hostdev mode='subsystem' type='pci' managed='no'><driver name='vfio' iommufd='yes'/><source><address domain='0' bus='0' slot='31' function='7'/></source></hostdev>",
        });
        Assert.DoesNotContain("iommufd", await domain.VirshAsync("dumpxml"));
        var check = (await host.TryAsync("cprsharp", "libvirt", "check", "passed", "--json")).Expect(3).Document;
        var failed = Assert.Single(check.GetProperty("findings").EnumerateArray(), f => f.GetProperty("severity").GetString() == "fail");
        Assert.Equal("hostdev", failed.GetProperty("id").GetString());
        Assert.Equal("pci 0000:00:1f.7", failed.GetProperty("object").GetString());
        Assert.Contains("iommufd", failed.GetProperty("evidence").GetString());
        Assert.Contains("cprsharp run", failed.GetProperty("fix").GetString());
    }

    [Fact]
    public async Task What_is_no_domain_is_said_to_be_none()
    {
        var file = host.File("none.xml");
        await File.WriteAllTextAsync(file, "<network/>");
        Assert.Contains("not of a domain", (await host.TryAsync("cprsharp", "libvirt", "check", file)).Expect(1).Errors);
        await File.WriteAllTextAsync(file, "<!DOCTYPE d [<!ENTITY e SYSTEM \"/etc/passwd\">]><domain>&e;</domain>");
        Assert.Contains("is not XML", (await host.TryAsync("cprsharp", "libvirt", "check", file)).Expect(1).Errors);
        Assert.Contains("failed to get domain 'no-such'", (await host.TryAsync("cprsharp", "libvirt", "check", "no-such")).Expect(1).Errors);
    }
}
