using CprSharp.Iommufd;
using CprSharp.Iommufd.Changes;
using CprSharp.Iommufd.Inventory;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>
/// The BARs that a VMM has mapped for its devices to reach each other. Since QEMU 11.0 they are dma-bufs, and while one is mapped the
/// kernel refuses <c>IOMMU_IOAS_CHANGE_PROCESS</c>. They are taken out for the last milliseconds of an update and put back, on
/// duplicates of the VMM's descriptors.
/// </summary>
internal sealed class BlockingBars : IDisposable
{
    private readonly PassThroughDescriptors _descriptors;
    private readonly List<(int Number, IommufdContext Context, List<BarMapping> Mappings)> _found;
    private readonly List<TakenOutBars> _out = [];

    private BlockingBars(PassThroughDescriptors descriptors)
    {
        _descriptors = descriptors;
        _found = [.. descriptors.Contexts.Select(c => (c.Number, c.Context, Mapped(c.Context, descriptors.Devices)))];
    }

    /// <summary>What is mapped, as the journal is to know it.</summary>
    public IReadOnlyList<TakenOutBar> Mappings =>
    [
        .. from found in _found
           from mapping in found.Mappings
           let device = _descriptors.Devices.First(d => d.Handle == mapping.Device).Device
           select new TakenOutBar(
               found.Number, mapping.Ioas.Value, mapping.Range.Start, mapping.Range.Length, device.Name, device.Host, mapping.Region, mapping.Offset),
    ];

    /// <summary>Duplicates the VMM's descriptors and looks what is mapped. Changes nothing.</summary>
    /// <exception cref="UpdateException">The descriptors may not be duplicated.</exception>
    public static BlockingBars Find(PidFd vmm, IReadOnlyList<PassedThroughDevice> devices)
    {
        var descriptors = PassThroughDescriptors.Duplicate(vmm, devices);
        try
        {
            return new BlockingBars(descriptors);
        }
        catch
        {
            descriptors.Dispose();
            throw;
        }
    }

    /// <summary>Takes them out; all or none.</summary>
    public void TakeOut()
    {
        foreach (var (_, context, mappings) in _found)
        {
            if (mappings.Count > 0)
                _out.Add(TakenOutBars.TakeOut(context, mappings));
        }
    }

    /// <summary>Puts back what was taken out, to where the guest has it now.</summary>
    /// <returns>What stays out, because the guest has it nowhere any more; the VMM maps it when the guest places it again.</returns>
    /// <exception cref="IommufdException">The kernel refused; what it refused stays out.</exception>
    public IReadOnlyList<(string Device, int Region)> PutBack(IReadOnlyList<PassedThroughDevice> now)
    {
        IommufdException? refused = null;
        (string, int)[] unplaced =
            [.. _out.SelectMany(taken => taken.Mappings).Where(mapping => Moved(mapping, now) is null).Select(mapping => (mapping.Device.Name, mapping.Region)).Distinct()];
        foreach (var taken in _out)
        {
            try
            {
                taken.PutBack(mapping => Moved(mapping, now));
            }
            catch (IommufdException e)
            {
                taken.Leave();
                refused ??= e;
            }
        }

        _out.Clear();
        return refused is null ? unplaced : throw refused;
    }

    /// <summary>Puts back what is still out, and lets go of the duplicates.</summary>
    public void Dispose()
    {
        foreach (var taken in _out)
        {
            try
            {
                taken.Dispose();
            }
            catch (IommufdException)
            {
                // Nobody settled which VMM has the guest: it is lost, and that was reported.
                taken.Leave();
            }
        }

        _descriptors.Dispose();
    }

    private static BarMapping? Moved(BarMapping mapping, IReadOnlyList<PassedThroughDevice> now) =>
        now.FirstOrDefault(d => d.Name == mapping.Device.Name)?.Place(mapping.Region, mapping.Offset, mapping.Range.Length) is { } range
            ? mapping with { Range = range }
            : null;

    private static List<BarMapping> Mapped(IommufdContext context, IReadOnlyList<(PassedThroughDevice Device, VfioDevice Handle)> devices)
    {
        var placed = devices.SelectMany(d => d.Device.Bars.Select(bar => (Device: d.Handle, Bar: bar))).ToList();
        var ranges = placed.Select(p => IovaRange.Of(p.Bar.Address, p.Bar.Size)).ToList();
        ulong[] edges = [.. ranges.SelectMany(r => new[] { r.Start, r.Last + 1 })];
        using var probe = new ContextProbe(context);
        var mappings = new List<BarMapping>();
        foreach (var ioas in probe.FindIoases())
        {
            foreach (var extent in probe.Observe(ioas, edges))
            {
                var index = ranges.FindIndex(r => r.Contains(extent.Range));
                if (index >= 0)
                {
                    mappings.Add(new BarMapping(
                        ioas, extent.Range, MapAccess.ReadWrite, placed[index].Device, placed[index].Bar.Index, extent.Range.Start - placed[index].Bar.Address));
                }
            }
        }

        return mappings;
    }
}
