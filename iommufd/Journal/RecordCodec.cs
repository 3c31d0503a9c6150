using System.Collections.Immutable;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Journal;

/// <summary>Operations to the bodies of records and back. Pure.</summary>
internal static class RecordCodec
{
    internal static RecordKind Encode(Operation operation, FieldWriter to)
    {
        switch (operation)
        {
            case AllocateIoasOperation:
                return RecordKind.AllocateIoas;
            case DestroyOperation o:
                Id(to, o.Target);
                return RecordKind.Destroy;
            case AllowIovasOperation o:
                to.U32(o.Ioas.Value).U32((uint)o.Ranges.Length);
                foreach (var range in o.Ranges)
                    to.U64(range.Start).U64(range.Last);
                return RecordKind.AllowIovas;
            case MapOperation o:
                to.U32(o.Ioas.Value).U32((uint)o.Access).Optional(o.Iova).U64(o.Length);
                return Encode(o.Backing, to);
            case CopyOperation o:
                to.U32(o.Source.Value).U32(o.Target.Value).U64(o.SourceIova).Optional(o.TargetIova).U64(o.Length).U32((uint)o.Access);
                return RecordKind.Copy;
            case UnmapOperation o:
                to.U32(o.Ioas.Value).U64(o.Range.Start).U64(o.Range.Last);
                return RecordKind.Unmap;
            case SetOptionOperation o:
                to.U32((uint)o.Option).Optional(o.Ioas?.Value).U64(o.Value);
                return RecordKind.SetOption;
            case SetCompatIoasOperation o:
                to.Optional(o.Ioas?.Value);
                return RecordKind.SetCompatIoas;
            case AllocateHwptOperation o:
                Id(Id(to.U32(o.Device.Value), o.Parent.Id).U32((uint)o.Flags).U32(o.DataType), o.FaultQueue);
                return RecordKind.AllocateHwpt;
            case SetDirtyTrackingOperation o:
                to.U32(o.Hwpt.Value).U32(o.Enabled ? 1u : 0);
                return RecordKind.SetDirtyTracking;
            case AllocateFaultQueueOperation:
                return RecordKind.AllocateFaultQueue;
            case AllocateVirtualIommuOperation o:
                to.U32(o.Device.Value).U32(o.Parent.Value).U32(o.Type);
                return RecordKind.AllocateVirtualIommu;
            case AllocateVirtualDeviceOperation o:
                to.U32(o.Viommu.Value).U32(o.Device.Value).U64(o.VirtualId);
                return RecordKind.AllocateVirtualDevice;
            case AllocateVirtualEventQueueOperation o:
                to.U32(o.Viommu.Value).U32(o.Type).U32(o.Depth);
                return RecordKind.AllocateVirtualEventQueue;
            case AllocateHardwareQueueOperation o:
                to.U32(o.Viommu.Value).U32(o.Type).U32(o.Index).U64(o.Iova).U64(o.Length);
                return RecordKind.AllocateHardwareQueue;
            case BindDeviceOperation o:
                to.Text(o.Device);
                return RecordKind.BindDevice;
            case AttachDeviceOperation o:
                Id(to.U32(o.Device.Value), o.PageTable.Id).Optional(o.Pasid);
                return RecordKind.AttachDevice;
            case DetachDeviceOperation o:
                to.U32(o.Device.Value).Optional(o.Pasid);
                return RecordKind.DetachDevice;
            case ChangeProcessOperation o:
                to.U32((uint)o.Pid);
                return RecordKind.ChangeProcess;
            default:
                throw new ArgumentException($"A journal has no record for {operation}.", nameof(operation));
        }
    }

    /// <returns>Null for a kind that is not known.</returns>
    internal static Operation? Decode(RecordKind kind, ref FieldReader from) => kind switch
    {
        RecordKind.AllocateIoas => new AllocateIoasOperation(),
        RecordKind.Destroy => new DestroyOperation(Id(ref from)),
        RecordKind.AllowIovas => new AllowIovasOperation(new IoasId(from.U32()), Ranges(ref from)),
        RecordKind.MapFile or RecordKind.MapDmaBuf or RecordKind.MapVirtual => Map(kind, ref from),
        RecordKind.Copy => Copy(ref from),
        RecordKind.Unmap => new UnmapOperation(new IoasId(from.U32()), new IovaRange(from.U64(), from.U64())),
        RecordKind.SetOption => new SetOptionOperation((ContextOption)from.U32(), Ioas(from.Optional()), from.U64()),
        RecordKind.SetCompatIoas => new SetCompatIoasOperation(Ioas(from.Optional())),
        RecordKind.AllocateHwpt => new AllocateHwptOperation(
            new DeviceId(from.U32()), new PageTableId(Id(ref from)), (HwptFlags)from.U32(), from.U32(), FaultQueue(from.Optional())),
        RecordKind.SetDirtyTracking => new SetDirtyTrackingOperation(new HwptId(from.U32()), from.U32() != 0),
        RecordKind.AllocateFaultQueue => new AllocateFaultQueueOperation(),
        RecordKind.AllocateVirtualIommu => new AllocateVirtualIommuOperation(new DeviceId(from.U32()), new HwptId(from.U32()), from.U32()),
        RecordKind.AllocateVirtualDevice => new AllocateVirtualDeviceOperation(new VirtualIommuId(from.U32()), new DeviceId(from.U32()), from.U64()),
        RecordKind.AllocateVirtualEventQueue => new AllocateVirtualEventQueueOperation(new VirtualIommuId(from.U32()), from.U32(), from.U32()),
        RecordKind.AllocateHardwareQueue => new AllocateHardwareQueueOperation(
            new VirtualIommuId(from.U32()), from.U32(), from.U32(), from.U64(), from.U64()),
        RecordKind.BindDevice => new BindDeviceOperation(from.Text()),
        RecordKind.AttachDevice => new AttachDeviceOperation(new DeviceId(from.U32()), new PageTableId(Id(ref from)), (uint?)from.Optional()),
        RecordKind.DetachDevice => new DetachDeviceOperation(new DeviceId(from.U32()), (uint?)from.Optional()),
        RecordKind.ChangeProcess => new ChangeProcessOperation((int)from.U32()),
        _ => null,
    };

    private static RecordKind Encode(Backing backing, FieldWriter to)
    {
        switch (backing)
        {
            case FileBacking file:
                File(to, file.File).U64(file.Offset);
                return RecordKind.MapFile;
            case DmaBufBacking buffer:
                File(to, buffer.Buffer).U64(buffer.Offset);
                return RecordKind.MapDmaBuf;
            case VirtualBacking memory:
                to.U32((uint)memory.Pid).U64(memory.Address);
                return RecordKind.MapVirtual;
            default:
                throw new ArgumentException($"Nobody can have mapped {backing}.", nameof(backing));
        }
    }

    private static MapOperation Map(RecordKind kind, ref FieldReader from)
    {
        var ioas = new IoasId(from.U32());
        var access = (MapAccess)from.U32();
        var iova = from.Optional();
        var length = from.U64();
        Backing backing = kind switch
        {
            RecordKind.MapFile => new FileBacking(File(ref from), from.U64()),
            RecordKind.MapDmaBuf => new DmaBufBacking(File(ref from), from.U64()),
            _ => new VirtualBacking((int)from.U32(), from.U64()),
        };
        return new MapOperation(ioas, iova, length, access, backing);
    }

    private static CopyOperation Copy(ref FieldReader from)
    {
        var source = new IoasId(from.U32());
        var target = new IoasId(from.U32());
        var sourceIova = from.U64();
        var targetIova = from.Optional();
        var length = from.U64();
        return new CopyOperation(source, sourceIova, target, targetIova, length, (MapAccess)from.U32());
    }

    private static ImmutableArray<IovaRange> Ranges(ref FieldReader from)
    {
        var count = from.U32();
        if (count > from.Room(2 * sizeof(ulong)))
            throw new InvalidDataException($"{count} ranges do not fit their record.");
        var ranges = ImmutableArray.CreateBuilder<IovaRange>((int)count);
        for (var i = 0; i < count; i++)
            ranges.Add(new IovaRange(from.U64(), from.U64()));
        return ranges.MoveToImmutable();
    }

    private static FieldWriter Id(FieldWriter to, ObjectId id) => to.U32((uint)id.Kind).U32(id.Value);

    private static FieldWriter Id(FieldWriter to, FaultQueueId? id) => to.Optional(id?.Value);

    private static ObjectId Id(ref FieldReader from) => new((ObjectKind)from.U32(), from.U32());

    private static FieldWriter File(FieldWriter to, FileIdentity file) => to.U32(file.Device.Major).U32(file.Device.Minor).U64(file.Inode);

    private static FileIdentity File(ref FieldReader from) => new(new DeviceNumber(from.U32(), from.U32()), from.U64());

    private static IoasId? Ioas(ulong? value) => value is { } id ? new IoasId((uint)id) : null;

    private static FaultQueueId? FaultQueue(ulong? value) => value is { } id ? new FaultQueueId((uint)id) : null;
}
