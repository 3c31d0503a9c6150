using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>A VMM that keeps no journal: what a sidecar can do with a duplicate of its context, its maps, and what it says of its guest.</summary>
[Collection(KernelCollection.Name)]
public sealed class ForeignTests
{
    private const ulong Start = MockIommu.ApertureStart;
    private const ulong Page = MockIommu.Page;

    [Fact]
    public void What_a_foreign_VMM_mapped_by_address_is_found_remapped_by_file_and_may_change_its_process()
    {
        using var memory = new GuestMemory(64 * Page);
        using var vmm = new MockIommu();
        var ioas = vmm.Context.AllocateIoas();
        var device = vmm.Attach(ioas);
        using var dmaBuf = vmm.CreateDmaBuf((uint)(2 * Page));
        var (ram, rom, bar) = (IovaRange.Of(Start, 16 * Page), IovaRange.Of(Start + 64 * Page, 8 * Page), IovaRange.Of(Start + 128 * Page, 2 * Page));
        vmm.Context.Map(ioas, memory.Address, ram.Length, MapAccess.ReadWrite, ram.Start);
        vmm.Context.Map(ioas, memory.Address + (nint)(32 * Page), rom.Length, MapAccess.Read, rom.Start);
        vmm.Context.MapFile(ioas, MappableFile.Unchecked(dmaBuf), 0, bar.Length, MapAccess.ReadWrite, bar.Start);

        using var sidecar = IommufdContext.Adopt(Descriptor.Duplicate(vmm.Context.Handle));
        var maps = ProcFs.Maps(Environment.ProcessId);
        var observed = Assert.Single(Verifier.Observe(sidecar));
        var inventory = ForeignInventory.Rebuild(new ForeignFacts(
            Environment.ProcessId,
            [new GuestRegion(ram, GuestRegionKind.Ram, "pc.ram", 0), new GuestRegion(rom, GuestRegionKind.Rom, "pc.ram", 32 * Page)],
            [new MemoryBlock("pc.ram", memory.Length, File: memory.File.Identity)],
            [new GuestBar("mock", 0, bar, new VfioRegionPart(0, bar.Length))],
            maps,
            ForeignMapping.ByAddress,
            observed.Value));

        Assert.Equal([(ram, Certainty.Confirmed), (rom, Certainty.Confirmed), (bar, Certainty.Confirmed)], inventory.Select(one => (one.Area.Range, one.Certainty)));

        sidecar.Unmap(observed.Key, inventory.Single(one => one.Bar is not null).Area.Range);
        var file = new FileFacts(DescriptorKind.Memfd, "guest", memory.Length, DescriptorAccess.ReadWrite, MemoryFile.GetSeals(memory.Handle));
        var plan = RemapPlanner.Plan(
            observed.Key,
            inventory.Where(one => one.Bar is null).Select(one => one.Area),
            Environment.ProcessId,
            maps,
            new Dictionary<FileIdentity, FileFacts> { [memory.File.Identity] = file });
        Remapper.Execute(
            sidecar, plan, new Dictionary<FileIdentity, MappableFile> { [memory.File.Identity] = memory.File }, DeviceQuiescence.Declared("mock devices do nothing"));
        vmm.Context.ChangeProcess();

        Assert.True(vmm.LeadsTo(device.Hwpt, ram.Start, memory.Address, ram.Length));
        Assert.True(vmm.LeadsTo(device.Hwpt, rom.Start, memory.Address + (nint)(32 * Page), rom.Length));
        Assert.Equal([new ObservedExtent(ram, true), new ObservedExtent(rom, false)], Verifier.Observe(sidecar)[ioas]);
    }
}
