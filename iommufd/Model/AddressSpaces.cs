using System.Collections.Immutable;

namespace CprSharp.Iommufd.Model;

/// <summary>What is mapped in one place.</summary>
/// <param name="Range">Where devices see it.</param>
/// <param name="Access">What they may do.</param>
/// <param name="Backing">The memory at the start of the range.</param>
/// <param name="Pages">Areas of the same number share one pin of the memory (they are copies of each other, or parts of such); 0 where that is not known.</param>
public sealed record Area(IovaRange Range, MapAccess Access, Backing Backing, ulong Pages)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Range} ({Access}): {Backing}";
}

/// <summary>One I/O address space.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Allowed">What IOMMU_IOAS_ALLOW_IOVAS has guaranteed; empty for no restriction.</param>
/// <param name="HugePages">Whether contiguous pages are combined.</param>
/// <param name="Areas">What is mapped, sorted by address, without overlaps.</param>
public sealed record AddressSpace(IoasId Id, ImmutableArray<IovaRange> Allowed, bool HugePages, ImmutableList<Area> Areas)
{
    private static readonly IComparer<Area> ByStart = Comparer<Area>.Create((a, b) => a.Range.Start.CompareTo(b.Range.Start));

    /// <summary>A fresh one.</summary>
    public static AddressSpace Empty(IoasId id) => new(id, [], true, []);

    /// <summary>The areas that have an address of the range, in order.</summary>
    public IEnumerable<Area> In(IovaRange range)
    {
        for (var i = FirstIndex(range.Start); i < Areas.Count && Areas[i].Range.Start <= range.Last; i++)
            yield return Areas[i];
    }

    /// <summary>The area that has the address; null for a hole.</summary>
    public Area? At(ulong address) => In(new IovaRange(address, address)).FirstOrDefault();

    internal AddressSpace Insert(Area area) => this with { Areas = Areas.Insert(FirstIndex(area.Range.Start), area) };

    internal AddressSpace Remove(IovaRange range)
    {
        var first = FirstIndex(range.Start);
        return this with { Areas = Areas.RemoveRange(first, In(range).Count()) };
    }

    /// <summary>The first area that ends at or behind the address.</summary>
    private int FirstIndex(ulong address)
    {
        var found = Areas.BinarySearch(new Area(new IovaRange(address, address), MapAccess.None, new UnknownBacking(), 0), ByStart);
        if (found >= 0)
            return found;
        var next = ~found;
        return next > 0 && Areas[next - 1].Range.Last >= address ? next - 1 : next;
    }
}

/// <summary>A device in a context.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Name">What it is.</param>
/// <param name="Attachments">PASID to page table; -1 stands for the device as such.</param>
public sealed record BoundDevice(DeviceId Id, string Name, ImmutableSortedDictionary<long, ObjectId> Attachments);

/// <summary>A page table.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Parent">What it was made from.</param>
/// <param name="Device">For which device.</param>
/// <param name="Flags">What it offers.</param>
/// <param name="DirtyTracking">Whether writes are being recorded.</param>
public sealed record PageTable(HwptId Id, ObjectId Parent, DeviceId Device, HwptFlags Flags, bool DirtyTracking);

/// <summary>A call whose end nobody saw: the process died in it.</summary>
/// <param name="Sequence">Its number.</param>
/// <param name="Operation">The call.</param>
public sealed record UnsettledOperation(ulong Sequence, Operation Operation);

/// <summary>The picture of a context: what the kernel cannot be asked for. Immutable; <see cref="Apply"/> is a pure function.</summary>
/// <param name="Ioases">Address spaces by id.</param>
/// <param name="Hwpts">Page tables that were made on purpose, by id; automatic ones come and go with their devices.</param>
/// <param name="Devices">Devices by id.</param>
/// <param name="Others">Queues and virtual IOMMUs by id.</param>
/// <param name="Compat">The address space of the container interface.</param>
/// <param name="AccountPerProcess">How pinned pages are counted.</param>
/// <param name="Owner">The process that last took the context over; null when nobody did.</param>
/// <param name="NextPages">The next number for <see cref="Area.Pages"/>.</param>
public sealed record AddressSpaces(
    ImmutableSortedDictionary<uint, AddressSpace> Ioases,
    ImmutableSortedDictionary<uint, PageTable> Hwpts,
    ImmutableSortedDictionary<uint, BoundDevice> Devices,
    ImmutableSortedDictionary<uint, ObjectId> Others,
    IoasId? Compat,
    bool AccountPerProcess,
    int? Owner,
    ulong NextPages)
{
    private const long WholeDevice = -1;

    /// <summary>An empty context.</summary>
    public static AddressSpaces Empty { get; } = new(
        ImmutableSortedDictionary<uint, AddressSpace>.Empty,
        ImmutableSortedDictionary<uint, PageTable>.Empty,
        ImmutableSortedDictionary<uint, BoundDevice>.Empty,
        ImmutableSortedDictionary<uint, ObjectId>.Empty,
        null,
        false,
        null,
        1);

    /// <summary>Every area of every address space.</summary>
    public IEnumerable<(IoasId Ioas, Area Area)> Areas => Ioases.Values.SelectMany(ioas => ioas.Areas.Select(area => (ioas.Id, area)));

    /// <summary>The picture after a call that the kernel carried out.</summary>
    /// <param name="operation">The call.</param>
    /// <param name="answer">The kernel's answer.</param>
    /// <exception cref="InconsistentRecordException">The kernel would not have done that: the record is not this context's.</exception>
    public AddressSpaces Apply(Operation operation, ulong answer)
    {
        ArgumentNullException.ThrowIfNull(operation);
        return operation switch
        {
            AllocateIoasOperation => this with { Ioases = Ioases.Add((uint)answer, AddressSpace.Empty(new IoasId((uint)answer))) },
            DestroyOperation destroy => Destroy(destroy.Target),
            AllowIovasOperation allow => With(Find(allow.Ioas, operation) with { Allowed = allow.Ranges }),
            MapOperation map => Map(map, answer),
            CopyOperation copy => Copy(copy, answer),
            UnmapOperation unmap => Unmap(unmap),
            SetOptionOperation option => SetOption(option),
            SetCompatIoasOperation compat => this with { Compat = compat.Ioas },
            AllocateHwptOperation hwpt => this with
            {
                Hwpts = Hwpts.SetItem(
                    (uint)answer, new PageTable(new HwptId((uint)answer), hwpt.Parent.Id, hwpt.Device, hwpt.Flags, DirtyTracking: false)),
            },
            SetDirtyTrackingOperation dirty when Hwpts.TryGetValue(dirty.Hwpt.Value, out var hwpt) => this with
            {
                Hwpts = Hwpts.SetItem(hwpt.Id.Value, hwpt with { DirtyTracking = dirty.Enabled }),
            },
            AllocateFaultQueueOperation => WithOther(ObjectKind.FaultQueue, answer),
            AllocateVirtualIommuOperation => WithOther(ObjectKind.VirtualIommu, answer),
            AllocateVirtualDeviceOperation => WithOther(ObjectKind.VirtualDevice, answer),
            AllocateVirtualEventQueueOperation => WithOther(ObjectKind.VirtualEventQueue, answer),
            AllocateHardwareQueueOperation => WithOther(ObjectKind.HardwareQueue, answer),
            BindDeviceOperation bind => this with
            {
                Devices = Devices.SetItem(
                    (uint)answer, new BoundDevice(new DeviceId((uint)answer), bind.Device, ImmutableSortedDictionary<long, ObjectId>.Empty)),
            },
            AttachDeviceOperation attach when Devices.TryGetValue(attach.Device.Value, out var device) => this with
            {
                Devices = Devices.SetItem(
                    device.Id.Value,
                    device with { Attachments = device.Attachments.SetItem(attach.Pasid ?? WholeDevice, attach.PageTable.Id) }),
            },
            DetachDeviceOperation detach when Devices.TryGetValue(detach.Device.Value, out var device) => this with
            {
                Devices = Devices.SetItem(
                    device.Id.Value, device with { Attachments = device.Attachments.Remove(detach.Pasid ?? WholeDevice) }),
            },
            ChangeProcessOperation change => this with { Owner = change.Pid },
            _ => throw new InconsistentRecordException(operation, "it names an object that was never made"),
        };
    }

    /// <summary>The devices that are attached to an address space, directly or by a page table made from it.</summary>
    public IEnumerable<BoundDevice> AttachedTo(IoasId ioas) => Devices.Values.Where(device => device.Attachments.Values.Any(target =>
        target == ioas.Id || (target.Kind == ObjectKind.Hwpt && Hwpts.TryGetValue(target.Value, out var hwpt) && hwpt.Parent == ioas.Id)));

    private AddressSpaces With(AddressSpace ioas) => this with { Ioases = Ioases.SetItem(ioas.Id.Value, ioas) };

    private AddressSpaces WithOther(ObjectKind kind, ulong id) => this with { Others = Others.SetItem((uint)id, new ObjectId(kind, (uint)id)) };

    private AddressSpace Find(IoasId id, Operation operation) =>
        Ioases.TryGetValue(id.Value, out var ioas) ? ioas : throw new InconsistentRecordException(operation, $"there is no {id}");

    private AddressSpaces Destroy(ObjectId target) => this with
    {
        Ioases = Ioases.Remove(target.Value),
        Hwpts = Hwpts.Remove(target.Value),
        Devices = Devices.Remove(target.Value),
        Others = Others.Remove(target.Value),
    };

    private AddressSpaces Map(MapOperation map, ulong iova)
    {
        var ioas = Find(map.Ioas, map);
        var area = new Area(IovaRange.Of(iova, map.Length), map.Access, map.Backing, NextPages);
        return With(Insert(ioas, area, map)) with { NextPages = NextPages + 1 };
    }

    private AddressSpaces Copy(CopyOperation copy, ulong iova)
    {
        var source = Find(copy.Source, copy);
        var wanted = IovaRange.Of(copy.SourceIova, copy.Length);
        var next = copy.SourceIova;
        var target = Find(copy.Target, copy);
        foreach (var area in source.In(wanted))
        {
            // One area for every one in the source, as the kernel does it.
            var part = area.Range.Intersect(wanted)!.Value;
            if (part.Start != next)
                break;
            var to = IovaRange.Of(iova + (part.Start - wanted.Start), part.Length);
            target = Insert(target, new Area(to, copy.Access, area.Backing.At(part.Start - area.Range.Start), area.Pages), copy);
            next = unchecked(part.Last + 1);
        }

        return next == unchecked(wanted.Last + 1) ? With(target) : throw new InconsistentRecordException(copy, $"the source is not mapped at 0x{next:x}");
    }

    private AddressSpaces Unmap(UnmapOperation unmap)
    {
        var ioas = Find(unmap.Ioas, unmap);
        var hit = ioas.In(unmap.Range).ToList();
        if (hit.Find(area => !unmap.Range.Contains(area.Range)) is { } cut)
            throw new InconsistentRecordException(unmap, $"it would split {cut}");
        return With(ioas.Remove(unmap.Range));
    }

    private AddressSpaces SetOption(SetOptionOperation option) => option switch
    {
        { Option: ContextOption.AccountPerProcess } => this with { AccountPerProcess = option.Value != 0 },
        { Option: ContextOption.HugePages, Ioas: { } ioas } => With(Find(ioas, option) with { HugePages = option.Value != 0 }),
        _ => throw new InconsistentRecordException(option, "the option needs an address space"),
    };

    private static AddressSpace Insert(AddressSpace ioas, Area area, Operation operation) => ioas.In(area.Range).FirstOrDefault() is { } other
        ? throw new InconsistentRecordException(operation, $"{area.Range} is taken by {other}")
        : ioas.Insert(area);
}

/// <summary>A record says that the kernel did what it never does.</summary>
/// <param name="operation">The recorded call.</param>
/// <param name="reason">What does not fit.</param>
public sealed class InconsistentRecordException(Operation operation, string reason) : IOException($"{operation}: {reason}.")
{
    /// <summary>The recorded call.</summary>
    public Operation Operation { get; } = operation;
}
