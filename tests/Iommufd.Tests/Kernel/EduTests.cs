using System.Runtime.InteropServices;
using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>A real VFIO device behind an emulated VT-d: everything that the mock has not.</summary>
[Collection(KernelCollection.Name)]
public sealed partial class EduTests
{
    private const ulong Start = 0x1000_0000;
    private const ulong Page = 4096;

    [Fact]
    public void A_device_tells_what_it_is()
    {
        EduDevice.Require();
        using var edu = new EduDevice();
        using var context = IommufdContext.Open();
        Assert.Equal(Errno.EINVAL, Fails(() => edu.Vfio.GetInfo()).Errno); // not bound yet
        var device = edu.Vfio.Bind(context);

        Assert.Equal(VfioDeviceFlags.Pci, edu.Vfio.GetInfo().Flags & (VfioDeviceFlags.Pci | VfioDeviceFlags.Reset));
        Assert.Equal((1UL << 20, 0xedu), (edu.Registers.Size, edu.Identify() & 0xff));
        Assert.Equal([new VfioRegionPart(0, 1 << 20)], edu.Registers.MappableParts);
        Assert.Equal(0UL, edu.Vfio.GetRegion(1).Size);
        Assert.Equal(1, edu.Vfio.GetInterrupt(VfioInterruptKind.Msi).Count);
        Assert.Equal(1u, context.GetHardwareInfo(device).Type);
        Assert.Equal(VfioMigrationFlags.None, edu.Vfio.GetMigrationSupport());
        Assert.Contains("root bus", Fails(() => edu.Vfio.GetHotResetDevices()).Cause, StringComparison.Ordinal);
        Assert.Contains("no reset of its own", Fails(edu.Vfio.Reset).Cause, StringComparison.Ordinal);
        Assert.Equal(Errno.EINVAL, Fails(() => edu.Vfio.Bind(context)).Errno);
        using var second = VfioDevice.OpenPci(edu.Address);
        var e = Fails(() => second.Bind(context));
        Assert.Equal(Errno.EINVAL, e.Errno);
        Assert.Contains("open elsewhere", e.Cause, StringComparison.Ordinal);
    }

    [Fact]
    public void DMA_goes_to_the_memory_that_is_mapped_and_interrupts_come_by_eventfd()
    {
        EduDevice.Require();
        using var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        using var memory = new GuestMemory(16 * Page);
        using var edu = new EduDevice(journal);
        using var context = IommufdContext.Open(journal);
        var (device, ioas) = Attach(edu, context, memory);

        RoundTrip(edu, memory);

        using var eventFd = EventFd();
        edu.Vfio.SetEventFds(VfioInterruptKind.Msi, [eventFd]);
        edu.Interrupt(1);
        Assert.Equal(1UL, Read(eventFd));
        edu.Acknowledge(1);
        edu.Vfio.TriggerInterrupt(VfioInterruptKind.Msi);
        Assert.Equal(1UL, Read(eventFd));
        edu.Vfio.DisableInterrupts(VfioInterruptKind.Msi);

        var picture = JournalReader.Read(file).Picture;
        Assert.Equal([device], picture.AttachedTo(ioas).Select(one => one.Id));
        Assert.Empty(Verifier.Verify(context, picture));
        edu.Vfio.Detach(device);
        Assert.Empty(JournalReader.Read(file).Picture.AttachedTo(ioas));
        Assert.Equal(1UL, context.GetUsableIovas(ioas).Alignment);
    }

    [Fact]
    public void Memory_by_address_is_remapped_by_file_while_the_device_is_stopped()
    {
        EduDevice.Require();
        using var memory = new GuestMemory(16 * Page);
        using var edu = new EduDevice();
        using var context = IommufdContext.Open();
        var ioas = context.AllocateIoas();
        context.Map(ioas, memory.Address, memory.Length, MapAccess.ReadWrite, Start);
        edu.Vfio.Attach(edu.Vfio.Bind(context), ioas);
        edu.Vfio.SetPciBusMaster(true);
        RoundTrip(edu, memory);
        var area = new Area(IovaRange.Of(Start, memory.Length), MapAccess.ReadWrite, new VirtualBacking(Environment.ProcessId, (ulong)memory.Address), 0);
        var facts = new FileFacts(DescriptorKind.Memfd, "guest", memory.Length, DescriptorAccess.ReadWrite, Seals.Shrink | Seals.Grow);
        var plan = RemapPlanner.Plan(ioas, [area], Environment.ProcessId, ProcFs.Maps(Environment.ProcessId), new Dictionary<FileIdentity, FileFacts> { [memory.File.Identity] = facts });
        Assert.Throws<NotQuiescedException>(() => DeviceQuiescence.NoneAttached(context, ioas));

        using (var stopped = StoppedDevices.Stop(edu.Vfio))
        {
            Assert.False(edu.Vfio.GetPciBusMaster());
            Remapper.Execute(context, plan, new Dictionary<FileIdentity, MappableFile> { [memory.File.Identity] = memory.File }, stopped.Quiescence);
            Assert.Contains("bus master", stopped.Quiescence.Reason, StringComparison.Ordinal);
        }

        Assert.True(edu.Vfio.GetPciBusMaster());
        context.ChangeProcess();
        RoundTrip(edu, memory);
    }

    [Fact]
    public void A_BAR_is_taken_out_for_the_change_of_process_and_put_back()
    {
        EduDevice.Require();
        using var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        using var memory = new GuestMemory(16 * Page);
        using var edu = new EduDevice();
        using var context = IommufdContext.Open(journal);
        var (_, ioas) = Attach(edu, context, memory);
        edu.EnableMemory();
        if (!edu.Vfio.HasFeature(VfioFeature.DmaBuf))
        {
            // A kernel on which no VMM can have a BAR in the way; it has to be the variant that is built so.
            Assert.Contains("no-dmabuf", Environment.GetEnvironmentVariable("CPRSHARP_HOST_KERNEL"), StringComparison.Ordinal);
            Assert.Equal(Errno.ENOTTY, Fails(() => edu.Vfio.ExportDmaBuf(0, new VfioRegionPart(0, 1 << 20))).Errno);
            Assert.IsType<ProcessChangeResult.Changed>(ProcessChange.Execute(context, JournalReader.Read(file).Picture, ProcessChange.FactsFor(context, Environment.ProcessId)));
            return;
        }

        var bar = new BarMapping(ioas, IovaRange.Of(0x2000_0000, 1 << 20), MapAccess.ReadWrite, edu.Vfio, 0, 0);
        using (var dmaBuf = edu.Vfio.ExportDmaBuf(0, new VfioRegionPart(0, 1 << 20)))
            context.MapFile(ioas, MappableFile.Inspect(dmaBuf), 0, 1 << 20, MapAccess.ReadWrite, bar.Range.Start);
        Assert.Equal(Errno.EINVAL, Fails(context.ChangeProcess).Errno);

        using (var taken = TakenOutBars.TakeOut(context, bar))
        {
            Assert.Equal([bar], taken.Mappings);
            Assert.IsType<ProcessChangeResult.Changed>(ProcessChange.Execute(context, JournalReader.Read(file).Picture, ProcessChange.FactsFor(context, Environment.ProcessId)));
        }

        AssertMapped(bar.Range);

        // Back at another address, as when the guest has moved it meanwhile.
        var moved = bar with { Range = IovaRange.Of(0x3000_0000, 1 << 20) };
        using (var taken = TakenOutBars.TakeOut(context, bar))
            taken.PutBack(_ => moved);
        AssertMapped(moved.Range);
        Assert.Equal(1, Verifier.Observe(context)[ioas].Count(extent => extent.Range.Length == 1 << 20));

        // Back again where the owner has mapped it himself meanwhile: it stays as it is.
        using (var taken = TakenOutBars.TakeOut(context, moved))
        {
            Assert.True(TakenOutBars.PutBackLost(context, moved));
            taken.PutBack();
        }

        AssertMapped(moved.Range);
        Assert.False(TakenOutBars.PutBackLost(context, moved));
        var partly = moved with { Range = IovaRange.Of(moved.Range.Start + (1 << 19), 1 << 20) };
        Assert.Equal(Errno.EEXIST, Fails(() => TakenOutBars.PutBackLost(context, partly)).Errno);
        AssertMapped(moved.Range);

        // What cannot be taken out, because it is not there, leaves the others where they are.
        Assert.Equal(Errno.ENOENT, Fails(() => TakenOutBars.TakeOut(context, moved, bar)).Errno);
        AssertMapped(moved.Range);
        using (var taken = TakenOutBars.TakeOut(context, moved))
            taken.Leave();
        Assert.DoesNotContain(Verifier.Observe(context)[ioas], extent => extent.Range.Length == 1 << 20);
        RoundTrip(edu, memory);
        Assert.Empty(Verifier.Verify(context, JournalReader.Read(file).Picture));

        void AssertMapped(IovaRange range) => Assert.Contains(Verifier.Observe(context)[ioas], extent => extent.Range == range && extent.WritableMemory);
    }

    private static (DeviceId Device, IoasId Ioas) Attach(EduDevice edu, IommufdContext context, GuestMemory memory)
    {
        var device = edu.Vfio.Bind(context);
        var ioas = context.AllocateIoas();
        context.MapFile(ioas, memory.File, 0, memory.Length, MapAccess.ReadWrite, Start);
        edu.Vfio.Attach(device, ioas);
        edu.Vfio.SetPciBusMaster(true);
        return (device, ioas);
    }

    private static void RoundTrip(EduDevice edu, GuestMemory memory)
    {
        var source = memory.Mapping.AsSpan(0, EduDevice.BufferBytes);
        Random.Shared.NextBytes(source);
        memory.Mapping.AsSpan(8 * 4096, EduDevice.BufferBytes).Clear();
        edu.Dma(Start, toDevice: true);
        edu.Dma(Start + 8 * Page, toDevice: false);
        Assert.Equal(source, memory.Mapping.AsSpan(8 * 4096, EduDevice.BufferBytes));
    }

    private static SafeFileHandle EventFd() => new(eventfd(0, 0x80000), ownsHandle: true);

    private static ulong Read(SafeFileHandle eventFd)
    {
        var bytes = new byte[8];
        Assert.Equal(8, read(eventFd, bytes, 8));
        return BitConverter.ToUInt64(bytes);
    }

    private static IommufdException Fails(Action action) => Assert.Throws<IommufdException>(action);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(SafeHandle fd, byte[] buffer, nuint count);
}
