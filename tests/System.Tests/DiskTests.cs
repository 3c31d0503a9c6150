using CprSharp.Memfd;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Disks whose requests the kernel carries out by itself: none is lost, torn or done twice, however many updates come in between.</summary>
public sealed class DiskTests(ITestOutputHelper output)
{
    [Theory(Explicit = true)] // in `make soak`
    [InlineData("io_uring", "")]
    [InlineData("native", "")]
    [InlineData("io_uring", ",iothread=io")]
    public async Task RequestsInFlightAreAnsweredBeforeTheGuestGoesOn(string aio, string device)
    {
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(host, "disk",
        [
            Components.Qemu111, .. guest.Arguments($"aio={aio},cache=none", duty: 20), "-M", "pc-q35-10.0", "-m", "256", "-smp", "2",
            "-object", "iothread,id=io", "-device", $"virtio-blk-pci,drive=disk,queue-size=1024{device}",
        ]);
        await guest.ReadyAsync();
        var rings = ProcFs.Descriptors(vm.VmmPid).Count(d => d.Info.Kind == DescriptorKind.IoUring);
        var longest = 0.0;
        foreach (var step in UpdateSchedule.Of("commit.begin", "transfer.end").Take(Math.Max(UpdateSchedule.Length / 2, 6)))
        {
            // Between QEMUs that both have io_uring for their disks.
            longest = Math.Max(longest, await (step with { To = Components.Qemu111 }).RunAsync(vm) ?? 0);
            await guest.GoesOnAsync();
        }

        await guest.ExpectUnharmedAsync();
        await guest.ExpectWholeDiskAsync();
        output.WriteLine($"aio={aio}{device}: {rings} io_uring instances, longest pause {longest:0.0} ms, {guest.Reports()[^1]}");
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
    }
}
