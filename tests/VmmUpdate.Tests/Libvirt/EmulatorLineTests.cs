using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Libvirt;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Tests.CommandLine;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Libvirt;

public sealed class EmulatorLineTests
{
    private const string Monitor = "-chardev socket,id=charmonitor,fd=29,server=on,wait=off -mon chardev=charmonitor,id=monitor,mode=control";

    [Theory]
    [InlineData("-name guest=web1,debug-threads=on -S " + Monitor, "web1")]
    [InlineData("-name web1 " + Monitor, "web1")]
    [InlineData("-name 'guest=a,,b c' " + Monitor, "a,b c")]
    [InlineData("-name guest=web1 -machine help " + Monitor, null)]
    [InlineData(Monitor, null)]
    [InlineData("-name guest=web1 -qmp unix:/s,server=on", null)]
    [InlineData("-name guest=web1 -chardev socket,id=m,path=/s,server=on -mon chardev=m,mode=control", null)]
    [InlineData("-name guest=web1 -chardev socket,id=m,fd=3,server=on -mon chardev=m,mode=readline", null)]
    [InlineData("-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg -qmp unix:/s,server=on,wait=off -pidfile /p -daemonize", null)]
    [InlineData("--version", null)]
    public void Only_a_named_guest_with_a_passed_monitor_is_a_domain(string line, string? domain) =>
        Assert.Equal(domain, EmulatorLine.DomainOf(QemuCommandLine.Parse(TestFacts.Words(line))));

    [Fact]
    public void Every_name_that_libvirt_takes_becomes_one_that_names_a_VM_and_no_two_the_same()
    {
        string[] names = ["web1", "Web 1", "web_1", "Web_1", "a/b", "a:b", "ä", "ö", "-x", ".x", new string('n', 64), new string('n', 65), new string('n', 66), "_"];
        var made = names.Select(DomainName.ToVmName).ToArray();
        Assert.All(made, VmDirectory.ValidateName);
        Assert.Equal(made.Length, made.Distinct(StringComparer.Ordinal).Count());
        Assert.Equal("web1", made[0]);
        Assert.All(made, name => Assert.Equal(name, DomainName.ToVmName(name)));
    }
}
