using CprSharp.Memfd;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Inventory;

/// <summary>What the kernel says is mapped, whoever mapped it.</summary>
/// <param name="Range">Mapped without a hole; how many areas that is cannot be seen.</param>
/// <param name="WritableMemory">Whether all of the memory was mapped for writing when it first was. A read-only copy of such an area cannot be told from a writable one.</param>
public readonly record struct ObservedExtent(IovaRange Range, bool WritableMemory);

/// <summary>
/// Finds out what is mapped in a context, although the kernel has no call for it, on a duplicate of its descriptor if need be.
/// Changes nothing that a device or the owner could see; two address spaces are made for the purpose and destroyed on Dispose.
/// </summary>
/// <remarks>
/// Two refusals of IOMMU_IOAS_COPY tell it. Copying a range <i>out of</i> an address space is refused with ENOENT unless all of it
/// is mapped. Copying read-only memory <i>into</i> one with write access is always refused, with EEXIST if any of the range is mapped
/// and with EPERM if none is (io_pagetable.c: iopt_check_iova comes before iopt_insert_area).
/// </remarks>
public sealed class ContextProbe : IDisposable
{
    /// <summary>The highest id that <see cref="FindIoases"/> looks at. Ids are given out from 1 on, the lowest free one first.</summary>
    public const uint HighestId = 4096;

    private const ulong Page = 4096;
    private const ulong LongestCopy = 1UL << 52;

    private readonly IommufdContext _context;
    private readonly IoasId _scratch;
    private readonly IoasId _readOnly;

    /// <summary>Prepares for probing.</summary>
    /// <param name="context">The context; used without its recorder being told.</param>
    /// <exception cref="IommufdException">ENOMEM.</exception>
    public ContextProbe(IommufdContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        // A context of its own for the same descriptor: what the probe does is nobody's record.
        _context = IommufdContext.Adopt(Descriptor.Duplicate(context.Handle));
        try
        {
            _scratch = _context.AllocateIoas();
            _readOnly = _context.AllocateIoas();
            // No page table will ever be filled from it, so that the file need not have the memory.
            using var nothing = MemoryFile.Create("cprsharp-probe", 0);
            _context.MapFile(_readOnly, MappableFile.Unchecked(nothing), 0, LongestCopy, MapAccess.Read, iova: 0);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The address spaces of the context, without the probe's own.</summary>
    public IReadOnlyList<IoasId> FindIoases()
    {
        var found = new List<IoasId>();
        for (uint id = 1; id <= HighestId; id++)
        {
            if (id != _scratch.Value && id != _readOnly.Value && _context.HasIoas(id))
                found.Add(new IoasId(id));
        }

        return found;
    }

    /// <summary>Whether all of the range is mapped.</summary>
    public bool IsMapped(IoasId ioas, IovaRange range) => CopyOut(ioas, range, MapAccess.Read) switch
    {
        0 => true,
        Errno.ENOENT => false,
        var errno => throw new IommufdException("IOMMU_IOAS_COPY", $"{ioas} to {_scratch}", range, errno),
    };

    /// <summary>Whether all of the range is mapped, and was for writing when the memory first was mapped.</summary>
    public bool IsWritableMemory(IoasId ioas, IovaRange range) => CopyOut(ioas, range, MapAccess.ReadWrite) switch
    {
        0 => true,
        Errno.ENOENT or Errno.EPERM => false,
        var errno => throw new IommufdException("IOMMU_IOAS_COPY", $"{ioas} to {_scratch}", range, errno),
    };

    /// <summary>Whether any of the range is mapped. The range must be usable: see <see cref="IommufdContext.GetUsableIovas"/>.</summary>
    /// <exception cref="IommufdException">EINVAL: part of the range is reserved, or not aligned.</exception>
    public bool IsOccupied(IoasId ioas, IovaRange range)
    {
        for (var start = range.Start; ;)
        {
            var last = range.Last - start < LongestCopy ? range.Last : start + (LongestCopy - 1);
            var piece = new IovaRange(start, last);
            switch (_context.TryCopy(_readOnly, IovaRange.Of(0, piece.Length), ioas, MapAccess.Write, start))
            {
                case Errno.EEXIST:
                    return true;
                case Errno.EPERM:
                    break;
                case var errno:
                    throw new IommufdException("IOMMU_IOAS_COPY", $"{_readOnly} to {ioas}", piece, errno);
            }

            if (last == range.Last)
                return false;
            start = last + 1;
        }
    }

    /// <summary>Everything that is mapped, to the page.</summary>
    /// <param name="ioas">The address space.</param>
    /// <param name="edges">Addresses at which to split what is found, for example where areas are thought to begin.</param>
    public IReadOnlyList<ObservedExtent> Observe(IoasId ioas, IEnumerable<ulong>? edges = null)
    {
        var splits = (edges ?? []).Order().Distinct().ToArray();
        var extents = new List<ObservedExtent>();
        foreach (var usable in _context.GetUsableIovas(ioas).Ranges)
        {
            if (Inner(usable) is { } range)
                Observe(ioas, range, splits, extents);
        }

        return extents;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var ioas in new[] { _readOnly, _scratch })
        {
            if (ioas.Value != 0)
                _context.Destroy(ioas);
        }

        _context.Dispose();
    }

    /// <summary>The whole pages of a range, short of the very last page, at whose end addresses overflow.</summary>
    private static IovaRange? Inner(IovaRange range)
    {
        if (range.Start > ulong.MaxValue - 2 * Page)
            return null;
        var start = (range.Start + (Page - 1)) & ~(Page - 1);
        var end = Math.Min(range.Last, ulong.MaxValue - Page) + 1 & ~(Page - 1);
        return end > start ? new IovaRange(start, end - 1) : null;
    }

    private void Observe(IoasId ioas, IovaRange range, ulong[] splits, List<ObservedExtent> extents)
    {
        for (var start = range.Start; IsOccupied(ioas, new IovaRange(start, range.Last));)
        {
            var first = FirstOccupied(ioas, new IovaRange(start, range.Last));
            var last = LastMapped(ioas, new IovaRange(first, range.Last));
            for (var at = first; ;)
            {
                var next = Array.Find(splits, edge => edge > at && edge <= last);
                var piece = new IovaRange(at, next == 0 ? last : next - 1);
                extents.Add(new ObservedExtent(piece, IsWritableMemory(ioas, piece)));
                if (next == 0)
                    break;
                at = next;
            }

            if (last == range.Last)
                return;
            start = last + 1;
        }
    }

    /// <summary>The first page that is mapped, of a range that has one.</summary>
    private ulong FirstOccupied(IoasId ioas, IovaRange range)
    {
        // Invariant: the first mapped page is in [low, high].
        var (low, high) = (range.Start / Page, range.Last / Page);
        while (low < high)
        {
            var middle = low + (high - low) / 2;
            if (IsOccupied(ioas, new IovaRange(low * Page, middle * Page + (Page - 1))))
                high = middle;
            else
                low = middle + 1;
        }

        return low * Page;
    }

    /// <summary>The last address up to which everything is mapped, of a range whose first page is.</summary>
    private ulong LastMapped(IoasId ioas, IovaRange range)
    {
        // Invariant: "low" pages from the start on are mapped, "high" are not or are too many.
        ulong low = 1;
        var most = (range.Last - range.Start) / Page + 1;
        var high = 2UL;
        while (high <= most && IsMapped(ioas, IovaRange.Of(range.Start, high * Page)))
            (low, high) = (high, high * 2);
        high = Math.Min(high, most + 1);
        while (high - low > 1)
        {
            var middle = low + (high - low) / 2;
            if (IsMapped(ioas, IovaRange.Of(range.Start, middle * Page)))
                low = middle;
            else
                high = middle;
        }

        return range.Start + (low * Page - 1);
    }

    private int CopyOut(IoasId ioas, IovaRange range, MapAccess access)
    {
        var errno = _context.TryCopy(ioas, range, _scratch, access, range.Start);
        if (errno == 0)
            _context.TryUnmapAll(_scratch);
        return errno;
    }
}
