using System.Collections.Immutable;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using FsCheck;
using FsCheck.Fluent;

namespace CprSharp.Iommufd.Tests.Model;

/// <summary>Random calls and histories of calls, as a kernel could have answered them.</summary>
internal static class Generators
{
    internal const ulong Page = 4096;

    internal static readonly Config Quick = Config.QuickThrowOnFailure.WithMaxTest(300);

    internal static readonly Gen<ulong> Number = Gen.Frequency(
        (5, Gen.Choose(0, 64).Select(i => (ulong)i * Page)), (1, Gen.Elements(0UL, 1UL, ulong.MaxValue, 1UL << 63)), (1, Gen.Choose(0, int.MaxValue).Select(i => (ulong)i)));

    internal static readonly Gen<uint> Id = Gen.Choose(0, 9).Select(i => (uint)i);

    internal static readonly Gen<MapAccess> Access = Gen.Elements(MapAccess.Read, MapAccess.Write, MapAccess.ReadWrite);

    internal static readonly Gen<FileIdentity> File =
        from major in Gen.Choose(0, 3) from minor in Gen.Choose(0, 30) from inode in Gen.Choose(1, 5) select new FileIdentity(new DeviceNumber((uint)major, (uint)minor), (ulong)inode);

    internal static readonly Gen<Backing> Backing =
        from file in File
        from offset in Number
        from kind in Gen.Choose(0, 2)
        select kind switch { 0 => new FileBacking(file, offset), 1 => new DmaBufBacking(file, offset), _ => (Backing)new VirtualBacking((int)file.Inode, offset) };

    /// <summary>Every kind of call, with any numbers.</summary>
    internal static readonly Gen<Operation> Any = Gen.OneOf(
        Gen.Constant<Operation>(new AllocateIoasOperation()),
        from kind in Gen.Choose(0, 8) from id in Id select (Operation)new DestroyOperation(new ObjectId((ObjectKind)kind, id)),
        from id in Id from ranges in Gen.ListOf(Range) select (Operation)new AllowIovasOperation(new IoasId(id), [.. ranges]),
        from id in Id
        from iova in Optional(Number)
        from length in Number
        from access in Access
        from backing in Backing
        select (Operation)new MapOperation(new IoasId(id), iova, length, access, backing),
        from a in Id
        from b in Id
        from iova in Number
        from to in Optional(Number)
        from length in Number
        from access in Access
        select (Operation)new CopyOperation(new IoasId(a), iova, new IoasId(b), to, length, access),
        from id in Id from range in Range select (Operation)new UnmapOperation(new IoasId(id), range),
        from option in Gen.Elements(ContextOption.AccountPerProcess, ContextOption.HugePages)
        from id in Optional(Id)
        from value in Number
        select (Operation)new SetOptionOperation(option, id is { } i ? new IoasId(i) : null, value),
        from id in Optional(Id) select (Operation)new SetCompatIoasOperation(id is { } i ? new IoasId(i) : null),
        from device in Id
        from kind in Gen.Elements(ObjectKind.Ioas, ObjectKind.Hwpt, ObjectKind.VirtualIommu)
        from parent in Id
        from flags in Gen.Choose(0, 15)
        from queue in Optional(Id)
        select (Operation)new AllocateHwptOperation(new DeviceId(device), new PageTableId(new ObjectId(kind, parent)), (HwptFlags)flags, 3, queue is { } q ? new FaultQueueId(q) : null),
        from id in Id from enabled in Gen.Elements(true, false) select (Operation)new SetDirtyTrackingOperation(new HwptId(id), enabled),
        Gen.Constant<Operation>(new AllocateFaultQueueOperation()),
        from a in Id from b in Id from type in Id select (Operation)new AllocateVirtualIommuOperation(new DeviceId(a), new HwptId(b), type),
        from a in Id from b in Id from number in Number select (Operation)new AllocateVirtualDeviceOperation(new VirtualIommuId(a), new DeviceId(b), number),
        from a in Id from b in Id from c in Id select (Operation)new AllocateVirtualEventQueueOperation(new VirtualIommuId(a), b, c),
        from a in Id from b in Id from c in Id from iova in Number from length in Number select (Operation)new AllocateHardwareQueueOperation(new VirtualIommuId(a), b, c, iova, length),
        from name in Gen.Elements("", "0000:00:03.0", "ä€") select (Operation)new BindDeviceOperation(name),
        from device in Id
        from kind in Gen.Elements(ObjectKind.Ioas, ObjectKind.Hwpt)
        from target in Id
        from pasid in Optional(Id)
        select (Operation)new AttachDeviceOperation(new DeviceId(device), new PageTableId(new ObjectId(kind, target)), pasid),
        from device in Id from pasid in Optional(Id) select (Operation)new DetachDeviceOperation(new DeviceId(device), pasid),
        from pid in Gen.Choose(1, 99) select (Operation)new ChangeProcessOperation(pid));

    /// <summary>A history: calls and answers that fit each other, with two address spaces and small numbers, so that areas meet often.</summary>
    internal static readonly Gen<ImmutableArray<(Operation Operation, ulong Answer)>> History =
        from seeds in Gen.ListOf(Gen.Choose(0, int.MaxValue)) select Build([.. seeds]);

    internal static Gen<IovaRange> Range => from start in Gen.Choose(0, 100) from pages in Gen.Choose(1, 20) select IovaRange.Of((ulong)start * Page, (ulong)pages * Page);

    internal static AddressSpaces Picture(IEnumerable<(Operation Operation, ulong Answer)> history) =>
        history.Aggregate(AddressSpaces.Empty, (picture, call) => picture.Apply(call.Operation, call.Answer));

    private static Gen<T?> Optional<T>(Gen<T> gen)
        where T : struct => Gen.OneOf(Gen.Constant<T?>(null), gen.Select(value => (T?)value));

    private static ImmutableArray<(Operation Operation, ulong Answer)> Build(int[] seeds)
    {
        var history = ImmutableArray.CreateBuilder<(Operation, ulong)>();
        history.Add((new AllocateIoasOperation(), 1));
        history.Add((new AllocateIoasOperation(), 2));
        var picture = Picture(history);
        foreach (var seed in seeds)
        {
            var random = new Random(seed);
            var ioas = new IoasId((uint)random.Next(1, 3));
            var iova = (ulong)random.Next(16, 80) * Page;
            var length = (ulong)random.Next(1, 12) * Page;
            var access = random.Next(2) == 0 ? MapAccess.Read : MapAccess.ReadWrite;
            var file = new FileBacking(new FileIdentity(new DeviceNumber(0, 1), (ulong)random.Next(1, 4)), (ulong)random.Next(20) * Page);
            Operation operation = random.Next(5) switch
            {
                0 or 1 => new MapOperation(ioas, iova, length, access, file),
                2 => new CopyOperation(new IoasId(3 - ioas.Value), (ulong)random.Next(16, 80) * Page, ioas, iova, length, access),
                3 => new UnmapOperation(ioas, IovaRange.Of(iova, length)),
                _ => new AllowIovasOperation(ioas, [IovaRange.Of(16 * Page, 100 * Page)]),
            };
            try
            {
                picture = picture.Apply(operation, iova);
                history.Add((operation, iova));
            }
            catch (InconsistentRecordException)
            {
                // The kernel would have refused it.
            }
        }

        return history.ToImmutable();
    }
}
