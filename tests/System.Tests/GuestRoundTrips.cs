using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>A Linux guest that counts milliseconds, checks its memory and writes its disk, taken from one QEMU to another and back.</summary>
public sealed class GuestRoundTrips
{
    [Theory]
    [InlineData("virtio-blk-pci,drive=disk,queue-size=1024")]
    [InlineData("ide-hd,drive=disk,bus=ide.0")]
    public Task From100To111AndBack(string disk) => ThereAndBackAsync(
        Components.Qemu100, Components.Qemu111, rounds: 2,
        "-M", "pc-q35-10.0", "-m", "256", "-device", disk, "-device", "e1000e,netdev=net", "-netdev", "user,id=net");

    [Fact]
    public Task From72To111AndBack() => ThereAndBackAsync(
        Components.Qemu72, Components.Qemu111, rounds: 2,
        "-M", "pc-q35-7.2", "-m", "256", "-smp", "2", "-device", "VGA", "-device", "virtio-blk-pci,drive=disk",
        "-device", "virtio-net-pci,netdev=net", "-netdev", "user,id=net", "-device", "virtio-rng-pci");

    private static async Task ThereAndBackAsync(string home, string away, int rounds, params string[] machine)
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "linux", [home, .. guest.Arguments(), .. machine]);
        await guest.ReadyAsync();
        Assert.DoesNotContain("failed", await guest.AskAsync("net", "net"), StringComparison.Ordinal);

        for (var round = 0; round < rounds; round++)
        {
            await GoAsync(away);
            await GoAsync(home);
        }

        Assert.DoesNotContain("failed", await guest.AskAsync("net", "net"), StringComparison.Ordinal);
        await guest.ExpectUnharmedAsync();
        await guest.ExpectWholeDiskAsync();

        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();

        async Task GoAsync(string to)
        {
            var report = await vm.UpdateAsync(to);
            Assert.True(report.GetProperty("pauseMs").GetDouble() > 0);
            Assert.Equal(to, report.GetProperty("to").GetProperty("binary").GetString());
            await vm.ExpectOneRunningVmmAsync();
            await guest.GoesOnAsync();
            await guest.AskAsync("ping here", "pong here");
        }
    }
}
