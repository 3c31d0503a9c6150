using CprSharp.LibvirtTests.Harness;
using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests;

/// <summary>Changes to a running domain's disks: libvirt's work as ever; and as no command line says what came of it, the domain is not
/// updated before it is started anew.</summary>
public sealed class BlockTests(LibvirtHost host)
{
    [Fact]
    public async Task Disks_are_copied_and_snapshot_before_an_update_and_after_it()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "copied", new DomainOptions { HasDisk = true });
        foreach (var isUpdated in (bool[])[false, true])
        {
            await domain.StartAsync();
            if (isUpdated)
                await domain.UpdateAsync(Components.Qemu111);
            var copy = host.File($"copy-{isUpdated}.img");
            await domain.VirshAsync("blockcopy", "--path", "vda", "--dest", copy, "--format", "raw", "--transient-job", "--wait", "--pivot");
            Assert.Contains(copy, await domain.VirshAsync("domblklist"));
            await domain.Log.GoesOnAsync();

            var overlay = host.File($"overlay-{isUpdated}.qcow2");
            await domain.VirshAsync("snapshot-create-as", "--name", $"s-{isUpdated}", "--disk-only", "--no-metadata", "--diskspec", $"vda,file={overlay}");
            Assert.Contains(overlay, await domain.VirshAsync("domblklist"));
            await ExpectRefusedAsync(domain, "block-graph");
            await domain.Log.ExpectUnharmedAsync();
            await domain.VirshAsync("destroy");
        }

        // On the disks that it has now it starts, and is updated.
        await domain.StartAsync();
        await domain.UpdateAsync(Components.Qemu111);
    }

    [Fact]
    public async Task No_update_begins_while_a_block_job_runs()
    {
        host.Configure();
        await using var domain = await Domain.DefineAsync(host, "job", new DomainOptions { HasDisk = true });
        await domain.StartAsync();
        var copy = host.File("job-copy.img");
        await domain.VirshAsync("blockcopy", "--path", "vda", "--dest", copy, "--format", "raw", "--transient-job"); // goes on until it is ended
        await ExpectRefusedAsync(domain, "job-under-way");
        Assert.Contains("Block Copy", await domain.VirshAsync("blockjob", "--path", "vda", "--raw"));
        await Deadlines.EventuallyAsync(async () => await domain.TryVirshAsync("blockjob", "--path", "vda", "--pivot") is { ExitCode: not 0 } failed ? failed.ToString() : null);
        await Deadlines.EventuallyAsync(async () => (await domain.VirshAsync("domblklist")).Contains(copy, StringComparison.Ordinal) ? null : "the disk is not the copy");
        await domain.Log.GoesOnAsync();
        await domain.Log.ExpectUnharmedAsync();
    }

    private async Task ExpectRefusedAsync(Domain domain, string cause)
    {
        foreach (var command in (string[])["check", "update"])
        {
            var report = (await host.TryAsync("cprsharp", command, domain.Name, "--to", Components.Qemu111, "--json")).Expect(3).Document;
            Assert.Contains(report.GetProperty("findings").EnumerateArray(), f => f.GetProperty("id").GetString() == cause && f.GetProperty("severity").GetString() == "fail");
        }

        await domain.Log.GoesOnAsync();
        Assert.Equal("running", await domain.StateAsync());
    }
}
