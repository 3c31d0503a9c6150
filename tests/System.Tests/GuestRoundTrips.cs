using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>A Linux guest that counts milliseconds, checks its memory and writes its disk, taken from one QEMU to another and back.</summary>
public sealed class GuestRoundTrips
{
    [Fact]
    public Task From100To111AndBackWithVirtioBlk() => ThereAndBackAsync(
        Components.Qemu100, Components.Qemu111, hasNetworkDriver: false,
        "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk,queue-size=1024", "-device", "e1000e,netdev=net", "-netdev", "user,id=net");

    [Fact]
    public Task From100To111AndBackWithIde() => ThereAndBackAsync(
        Components.Qemu100, Components.Qemu111, hasNetworkDriver: false,
        "-M", "pc-i440fx-10.0", "-m", "256", "-device", "ide-hd,drive=disk,bus=ide.0", "-device", "e1000e,netdev=net", "-netdev", "user,id=net");

    [Fact]
    public Task From72To111AndBack() => ThereAndBackAsync(
        Components.Qemu72, Components.Qemu111, hasNetworkDriver: true,
        "-M", "pc-q35-7.2", "-m", "256", "-smp", "2", "-device", "VGA", "-device", "virtio-blk-pci,drive=disk",
        "-device", "virtio-net-pci,netdev=net", "-netdev", "user,id=net", "-device", "virtio-rng-pci");

    private static async Task ThereAndBackAsync(string home, string away, bool hasNetworkDriver, params string[] machine)
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "linux", [home, .. guest.Arguments(), .. machine]);
        await guest.ReadyAsync();
        await ExpectNetworkAsync();
        for (var round = 0; round < 2; round++)
        {
            await GoAsync(away);
            await GoAsync(home);
        }

        await ExpectNetworkAsync();
        await guest.ExpectUnharmedAsync();
        await guest.ExpectWholeDiskAsync();

        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();

        async Task ExpectNetworkAsync()
        {
            if (hasNetworkDriver)
                Assert.DoesNotContain("failed", await guest.AskAsync("net", "net"), StringComparison.Ordinal);
        }

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
