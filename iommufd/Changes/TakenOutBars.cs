using System.Collections.Immutable;
using CprSharp.Iommufd.Inventory;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Changes;

/// <summary>A BAR, or part of one, that is mapped for other devices.</summary>
/// <param name="Ioas">The address space.</param>
/// <param name="Range">Where they see it: one whole area, or several without a gap.</param>
/// <param name="Access">What they may do.</param>
/// <param name="Device">Whose it is; a duplicate of another process's descriptor will do.</param>
/// <param name="Region">The BAR, 0 to 5.</param>
/// <param name="Offset">Bytes into it.</param>
public sealed record BarMapping(IoasId Ioas, IovaRange Range, MapAccess Access, VfioDevice Device, int Region, ulong Offset)
{
    /// <inheritdoc/>
    public override string ToString() => $"region {Region} of {Device.Name} in {Ioas} at IOVA {Range}";
}

/// <summary>
/// BARs that were taken out of address spaces because they block IOMMU_IOAS_CHANGE_PROCESS. They go back with <see cref="PutBack"/>,
/// to where they were or to where the guest has them now; with <see cref="Leave"/> they stay out; on Dispose they go back where they were.
/// </summary>
/// <remarks>What makes the way back possible, a dma-buf of each BAR, is obtained and tried before anything is taken out.</remarks>
public sealed class TakenOutBars : IDisposable
{
    private readonly IommufdContext _context;
    private readonly ImmutableArray<(BarMapping Mapping, SafeFileHandle DmaBuf)> _bars;
    private bool _settled;

    private TakenOutBars(IommufdContext context, ImmutableArray<(BarMapping Mapping, SafeFileHandle DmaBuf)> bars)
    {
        _context = context;
        _bars = bars;
    }

    /// <summary>What was taken out.</summary>
    public IEnumerable<BarMapping> Mappings => _bars.Select(bar => bar.Mapping);

    /// <summary>Takes BARs out; all or none.</summary>
    /// <param name="context">The context.</param>
    /// <param name="mappings">What to take out.</param>
    /// <exception cref="IommufdException">A BAR cannot be exported, mapped or unmapped. All are where they were.</exception>
    public static TakenOutBars TakeOut(IommufdContext context, params IReadOnlyList<BarMapping> mappings)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(mappings);
        var exported = new List<(BarMapping Mapping, SafeFileHandle DmaBuf)>();
        var removed = new Stack<(BarMapping Mapping, SafeFileHandle DmaBuf)>();
        try
        {
            foreach (var mapping in mappings)
                exported.Add((mapping, mapping.Device.ExportDmaBuf(mapping.Region, new VfioRegionPart(mapping.Offset, mapping.Range.Length))));
            Try(context, exported);
            foreach (var bar in exported)
            {
                context.Unmap(bar.Mapping.Ioas, bar.Mapping.Range);
                removed.Push(bar);
            }

            return new TakenOutBars(context, [.. exported]);
        }
        catch
        {
            while (removed.TryPop(out var bar))
                Map(context, bar.Mapping, bar.DmaBuf);
            foreach (var (_, dmaBuf) in exported)
                dmaBuf.Dispose();
            throw;
        }
    }

    /// <summary>Puts a BAR in that a process which is gone took out, at the range that the mapping now says.</summary>
    /// <param name="context">The context.</param>
    /// <param name="mapping">What to map.</param>
    /// <returns>False if it was there already.</returns>
    /// <exception cref="IommufdException">The kernel refused: ENODEV when the device's memory is disabled now, EEXIST when part of the range has something else.</exception>
    public static bool PutBackLost(IommufdContext context, BarMapping mapping)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(mapping);
        using var dmaBuf = mapping.Device.ExportDmaBuf(mapping.Region, new VfioRegionPart(mapping.Offset, mapping.Range.Length));
        return MapUnlessThere(context, mapping, dmaBuf);
    }

    /// <summary>Puts the BARs back, but for those that the owner has mapped there meanwhile; all or none.</summary>
    /// <param name="where">From each mapping to the one that it shall be now; null for one that stays out. Null for where they were.</param>
    /// <exception cref="IommufdException">The kernel refused: ENODEV when the device's memory is disabled now. All are out; it can be called again.</exception>
    public void PutBack(Func<BarMapping, BarMapping?>? where = null)
    {
        ObjectDisposedException.ThrowIf(_settled, this);
        var mapped = new Stack<BarMapping>();
        try
        {
            foreach (var (mapping, dmaBuf) in _bars)
            {
                if ((where is null ? mapping : where(mapping)) is not { } target)
                    continue;
                if (MapUnlessThere(_context, target, dmaBuf))
                    mapped.Push(target);
            }
        }
        catch
        {
            while (mapped.TryPop(out var target))
                _context.Unmap(target.Ioas, target.Range);
            throw;
        }

        Leave();
    }

    /// <summary>Leaves the BARs out.</summary>
    public void Leave()
    {
        _settled = true;
        foreach (var (_, dmaBuf) in _bars)
            dmaBuf.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_settled)
            PutBack();
    }

    /// <summary>Maps each aside and away again: a BAR whose memory is disabled, or a kernel that takes no dma-bufs, shows here.</summary>
    private static void Try(IommufdContext context, List<(BarMapping Mapping, SafeFileHandle DmaBuf)> bars)
    {
        if (bars.Count == 0)
            return;
        var aside = context.AllocateIoas();
        try
        {
            foreach (var (mapping, dmaBuf) in bars)
                context.MapFile(aside, MappableFile.Unchecked(dmaBuf), 0, mapping.Range.Length, mapping.Access);
        }
        finally
        {
            context.Destroy(aside);
        }
    }

    /// <summary>A guest that moves its BAR makes its VMM map it at the new place.</summary>
    private static bool MapUnlessThere(IommufdContext context, BarMapping mapping, SafeFileHandle dmaBuf)
    {
        try
        {
            Map(context, mapping, dmaBuf);
            return true;
        }
        catch (IommufdException e) when (e.Errno == Errno.EEXIST)
        {
            using var probe = new ContextProbe(context);
            if (!probe.IsMapped(mapping.Ioas, mapping.Range))
                throw;
            return false;
        }
    }

    private static void Map(IommufdContext context, BarMapping mapping, SafeFileHandle dmaBuf) =>
        context.MapFile(mapping.Ioas, MappableFile.Unchecked(dmaBuf), 0, mapping.Range.Length, mapping.Access, mapping.Range.Start);
}
