using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Handover;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Tests.Kernel;
using Xunit;

namespace CprSharp.Iommufd.Tests.Replacement;

/// <summary>
/// Whoever takes part in a hand-over is killed at each of its steps, in the middle of a DMA transfer: the device works on for the one who has it
/// all, or it is free. Only the one that is killed is a process of its own, since starting one takes an emulated host seconds.
/// </summary>
[Collection(KernelCollection.Name)]
public sealed class KillTests
{
    private const uint Root = 0;
    private const int Copies = 3;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("driving")]
    [InlineData("packed")]
    public Task The_old_one_killed_before_it_sent_the_box_leaves_the_device_free(string step) => WithoutATraceAsync(async () =>
    {
        await using var old = await Actor.StartAsync(typeof(KillTests), nameof(Role_old), Ct);
        await old.ReachAsync(step, Ct);
        await old.KillAsync();

        await Assert.ThrowsAsync<EndOfStreamException>(() => ReceivedBox.ReceiveAsync(old.Box, Root, Ct));
        using var driver = EduDriver.Open();
        driver.Begin();
        DriveToTheEnd(driver);
    });

    /// <summary>The new one has all of the device or nothing, since the box is one message.</summary>
    [Theory]
    [InlineData("sent")]
    [InlineData("received")]
    [InlineData("claimed")]
    [InlineData("changed")]
    public Task The_old_one_killed_once_it_sent_the_box_leaves_the_device_to_the_new_one(string step) => WithoutATraceAsync(async () =>
    {
        await using var old = await Actor.StartAsync(typeof(KillTests), nameof(Role_old), Ct);
        await old.ReachAsync("sent", Ct);
        await KillAtAsync("sent");
        using var box = await ReceivedBox.ReceiveAsync(old.Box, Root, Ct);
        await KillAtAsync("received");
        using var driver = EduDriver.Claim(box);
        await KillAtAsync("claimed");
        driver.TakeOver(step == "changed" ? old.PidFd.Pid : null);
        await KillAtAsync("changed");

        DriveToTheEnd(driver);

        Task KillAtAsync(string reached) => reached == step ? old.KillAsync() : Task.CompletedTask;
    });

    /// <summary>The old one drives on at once, whoever is charged, and can be charged again.</summary>
    [Theory]
    [InlineData("waiting")]
    [InlineData("box unread")]
    [InlineData("received")]
    [InlineData("claimed")]
    [InlineData("changed")]
    [InlineData("driven")]
    public Task The_new_one_killed_leaves_the_device_to_the_old_one(string step) => WithoutATraceAsync(async () =>
    {
        using var driver = EduDriver.Open();
        driver.Begin();
        await using var next = await Actor.StartAsync(typeof(KillTests), nameof(Role_new), Ct);
        using var box = driver.Pack();
        await next.ReachAsync("waiting", Ct);
        if (step == "waiting")
        {
            await next.KillAsync();
            await Assert.ThrowsAsync<UnauthorizedAccessException>(() => box.SendAsync(next.Box, next.PidFd, Root, Ct));
        }
        else
        {
            await box.SendAsync(next.Box, next.PidFd, Root, Ct);
            if (step != "box unread")
            {
                await next.GoAsync(Ct);
                await next.ReachAsync(step, Ct);
            }

            await next.KillAsync();
        }

        Drive(driver);
        driver.TakeOver(null);
        DriveToTheEnd(driver);
    });

    /// <summary>A sidecar takes a BAR out for others. Without it DMA runs on, and what it took out can be found and put back.</summary>
    [Theory]
    [InlineData("ready")]
    [InlineData("taken out")]
    [InlineData("put back")]
    public Task The_sidecar_killed_leaves_the_device_to_its_owner(string step) => WithoutATraceAsync(async () =>
    {
        using var driver = EduDriver.Open();
        driver.Edu.EnableMemory();
        var bar = Bar(driver.Ioas, driver.Edu.Vfio);
        using (var dmaBuf = driver.Edu.Vfio.ExportDmaBuf(bar.Region, new VfioRegionPart(bar.Offset, bar.Range.Length)))
            driver.Context.MapFile(bar.Ioas, MappableFile.Inspect(dmaBuf), 0, bar.Range.Length, bar.Access, bar.Range.Start);
        driver.Begin();
        await using var sidecar = await Actor.StartAsync(typeof(KillTests), nameof(Role_sidecar), Ct);
        using var box = driver.Pack();
        await box.SendAsync(sidecar.Box, sidecar.PidFd, Root, Ct);
        await sidecar.ReachAsync(step, Ct);
        await sidecar.KillAsync();

        Drive(driver);
        Assert.Equal(step == "taken out", TakenOutBars.PutBackLost(driver.Context, bar));
        Assert.Contains(Verifier.Observe(driver.Context)[bar.Ioas], extent => extent.Range == bar.Range);
        DriveToTheEnd(driver);
    });

    private static async Task Role_old()
    {
        using var side = await Actor.Side.JoinAsync();
        using var driver = EduDriver.Open();
        driver.Begin();
        await side.ReachedAsync("driving");
        using var box = driver.Pack();
        await side.ReachedAsync("packed");
        using (var next = side.Box.OpenPeerPidFd())
            await box.SendAsync(side.Box, next, Root);
        await side.ReachedAsync("sent");
    }

    private static async Task Role_new()
    {
        using var side = await Actor.Side.JoinAsync();
        await side.ReachedAsync("waiting");
        using var box = await ReceivedBox.ReceiveAsync(side.Box, Root);
        await side.ReachedAsync("received");
        using var driver = EduDriver.Claim(box);
        await side.ReachedAsync("claimed");
        driver.TakeOver(side.Box.Peer.Pid);
        await side.ReachedAsync("changed");
        Drive(driver);
        await side.ReachedAsync("driven");
    }

    private static async Task Role_sidecar()
    {
        using var side = await Actor.Side.JoinAsync();
        using var box = await ReceivedBox.ReceiveAsync(side.Box, Root);
        using var context = IommufdContext.Adopt(box.Claim("iommufd"));
        using var device = VfioDevice.Adopt(box.Claim("device"), "edu");
        using var probe = new ContextProbe(context);
        var ioas = Assert.Single(probe.FindIoases());
        await side.ReachedAsync("ready");
        using (TakenOutBars.TakeOut(context, Bar(ioas, device)))
            await side.ReachedAsync("taken out");
        await side.ReachedAsync("put back");
    }

    private static BarMapping Bar(IoasId ioas, VfioDevice device) => new(ioas, IovaRange.Of(0x2000_0000, 1 << 20), MapAccess.ReadWrite, device, 0, 0);

    /// <summary>From the middle of a copy to the middle of another one.</summary>
    private static void Drive(EduDriver driver)
    {
        for (var copy = 0; copy < Copies; copy++)
        {
            driver.End();
            driver.Begin();
        }
    }

    private static void DriveToTheEnd(EduDriver driver)
    {
        Drive(driver);
        driver.End();
        Assert.Equal((driver.Begun, 0), (driver.Ended, driver.Mismatches));
    }

    /// <summary>No fault of DMA, and nothing stays pinned.</summary>
    private static async Task WithoutATraceAsync(Func<Task> test)
    {
        EduDevice.Require();
        var (faults, pins) = (await Oracles.DmaFaultsAsync(Ct), await Oracles.PinnedPagesAsync(Ct));
        await test();
        Assert.Equal((faults, pins), (await Oracles.DmaFaultsAsync(Ct), await Oracles.PinnedPagesAsync(Ct)));
    }
}
