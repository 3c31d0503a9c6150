using System.Runtime.InteropServices;
using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Handover;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Tests.Kernel;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Replacement;

/// <summary>
/// A small VMM: has a device copy pages of guest memory to itself and back, each copy with an interrupt, and compares. It can be replaced at
/// any moment of a copy; what it has counted is in memory, too.
/// </summary>
internal sealed partial class EduDriver : IDisposable
{
    internal const ulong Size = 16 * Page;
    private const ulong Page = 4096;
    private const ulong Start = 0x1000_0000;
    private const int Pages = 8;

    private readonly SafeFileHandle _memory;
    private readonly SafeFileHandle _counters;
    private readonly SafeFileHandle _journal;
    private readonly SafeFileHandle _bell;
    private readonly MemoryMapping _guest;
    private readonly MemoryMapping _counts;

    private EduDriver(IommufdContext context, EduDevice edu, SafeFileHandle memory, SafeFileHandle counters, SafeFileHandle journal, SafeFileHandle bell)
    {
        (Context, Edu, _memory, _counters, _journal, _bell) = (context, edu, memory, counters, journal, bell);
        _guest = MemoryMapping.Map(memory, 0, (nuint)Size, MappingProtection.Read | MappingProtection.Write);
        _counts = MemoryMapping.Map(counters, 0, (nuint)Page, MappingProtection.Read | MappingProtection.Write);
    }

    internal IommufdContext Context { get; }

    internal EduDevice Edu { get; }

    /// <summary>Copies begun, and interrupts of copies that have ended.</summary>
    internal ref long Begun => ref Counts[0];

    internal ref long Ended => ref Counts[1];

    /// <summary>Pages that came back as something else.</summary>
    internal ref long Mismatches => ref Counts[2];

    /// <summary>How often it was replaced.</summary>
    internal ref long Replacements => ref Counts[3];

    private Span<long> Counts => MemoryMarshal.Cast<byte, long>(_counts.AsSpan(0, 4 * sizeof(long)));

    /// <summary>The first one: opens the device, with its memory mapped by file.</summary>
    internal static EduDriver Open()
    {
        var journal = MemoryFile.Create("journal", 0);
        var recorder = JournalWriter.Create(journal);
        var memory = MemoryFile.Create("guest", (long)Size);
        var edu = new EduDevice(recorder);
        var context = IommufdContext.Open(recorder);
        var device = edu.Vfio.Bind(context);
        var driver = new EduDriver(context, edu, memory, MemoryFile.Create("counters", (long)Page), journal, new SafeFileHandle(eventfd(0, 0x80000), ownsHandle: true));
        // The kernel decides at each mapping whom it charges, and root never.
        driver.Ioas = OtherUser.Run(OtherUser.Nobody, () =>
        {
            var ioas = context.AllocateIoas();
            driver.Map(ioas);
            return ioas;
        });
        edu.Vfio.Attach(device, driver.Ioas);
        edu.Settle(); // its last owner may have been killed in the middle of a copy
        edu.Vfio.SetPciBusMaster(true);
        edu.Vfio.SetEventFds(VfioInterruptKind.Msi, [driver._bell]);
        return driver;
    }

    /// <summary>The next one, in the middle of a copy.</summary>
    internal static EduDriver Claim(ReceivedBox box)
    {
        var journal = box.Claim("journal");
        return new EduDriver(
            IommufdContext.Adopt(box.Claim("iommufd")), new EduDevice(VfioDevice.Adopt(box.Claim("device"), "edu")), box.Claim("memory"), box.Claim("counters"), journal, box.Claim("bell"));
    }

    internal IoasId Ioas { get; private set; }

    internal void Map(IoasId ioas) => Context.MapFile(ioas, MappableFile.Inspect(_memory), 0, Size, MapAccess.ReadWrite, Start);

    internal void Unmap() => Context.Unmap(Ioas, IovaRange.Of(Start, Size));

    /// <summary>Duplicates of everything, for the next one.</summary>
    internal SealedBox Pack()
    {
        using var box = new HandoverBox();
        box.Add("iommufd", HandoverMeaning.Context, Context.Handle);
        box.Add("device", HandoverMeaning.Device, Edu.Vfio.Handle);
        box.Add("memory", HandoverMeaning.Memory, _memory);
        box.Add("counters", HandoverMeaning.Memory, _counters);
        box.Add("journal", HandoverMeaning.Journal, _journal);
        box.Add("bell", HandoverMeaning.EventFd, _bell);
        return box.Seal();
    }

    /// <summary>Makes this process the one that is charged for what the device can reach, instead of another one, or of one that is gone (null).</summary>
    internal void TakeOver(int? from)
    {
        var picture = JournalReader.Read(_journal).Picture;
        var facts = from is { } pid ? ProcessChange.FactsFor(Context, pid) : ProcessChange.FactsForGone(Context, picture);
        Assert.IsType<ProcessChangeResult.Changed>(ProcessChange.Execute(Context, picture, facts));
        Replacements++;
    }

    /// <summary>Begins a copy: of a page of random bytes to the device, or back from there to another page.</summary>
    internal void Begin()
    {
        var (page, toDevice) = ((int)(Begun / 2 % Pages), Begun % 2 == 0);
        if (toDevice)
        {
            new Random((int)Begun).NextBytes(At(page));
            At(Pages + page).Clear();
        }

        Edu.BeginDma(Start + (ulong)(toDevice ? page : Pages + page) * Page, toDevice);
        Begun++;
    }

    /// <summary>Waits for the interrupt of the copy that is under way, whoever began it.</summary>
    internal void End()
    {
        var count = new byte[8];
        Assert.Equal(8, read(_bell, count, 8));
        Edu.EndDma();
        Ended += BitConverter.ToInt64(count);
        var (page, fromDevice) = ((int)((Begun - 1) / 2 % Pages), Begun % 2 == 0);
        if (fromDevice && !At(page).SequenceEqual(At(Pages + page)))
            Mismatches++;
    }

    public void Dispose()
    {
        Edu.Dispose();
        Context.Dispose();
        _guest.Dispose();
        _counts.Dispose();
        foreach (var descriptor in new[] { _memory, _counters, _journal, _bell })
            descriptor.Dispose();
    }

    private Span<byte> At(int page) => _guest.AsSpan((nuint)page * (nuint)Page, (int)Page);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(SafeHandle fd, byte[] buffer, nuint count);
}
