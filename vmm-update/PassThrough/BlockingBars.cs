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
    private readonly List<VfioDevice> _devices = [];
    private readonly List<(IommufdContext Context, IReadOnlyList<BarMapping> Mappings)> _found = [];
    private readonly List<TakenOutBars> _out = [];

    private BlockingBars()
    {
    }

    /// <summary>How many are mapped.</summary>
    public int Count => _found.Sum(f => f.Mappings.Count);

    /// <summary>Duplicates the VMM's descriptors and looks what is mapped. Changes nothing.</summary>
    /// <exception cref="UpdateException">The descriptors may not be duplicated.</exception>
    public static BlockingBars Find(PidFd vmm, IReadOnlyList<PassedThroughDevice> devices)
    {
        var bars = new BlockingBars();
        try
        {
            var descriptors = ProcFs.Descriptors(vmm.Pid);
            var placed = new List<(VfioDevice Device, PlacedBar Bar)>();
            foreach (var descriptor in descriptors.Where(d => d.Info.Kind == DescriptorKind.VfioDevice))
            {
                if (devices.FirstOrDefault(d => Is(d, descriptor.Info.Path)) is not { } device)
                    continue;
                var duplicate = VfioDevice.Adopt(vmm.GetDescriptor(descriptor.Number), device.Name);
                bars._devices.Add(duplicate);
                placed.AddRange(device.Bars.Select(b => (duplicate, b)));
            }

            foreach (var descriptor in descriptors.Where(d => d.Info.Kind == DescriptorKind.Iommufd))
            {
                var context = IommufdContext.Adopt(vmm.GetDescriptor(descriptor.Number));
                bars._found.Add((context, []));
                bars._found[^1] = (context, Mapped(context, placed));
            }

            return bars;
        }
        catch (SyscallException e) when (e.Errno is Errno.EPERM)
        {
            bars.Dispose();
            throw new UpdateException(
                "vfio-descriptors", $"the VMM's descriptors (pid {vmm.Pid}) may not be duplicated: {e.Message}", "run the supervisor as the VMM's user or as root; kernel.yama.ptrace_scope must allow it", e)
            {
                IsRefusal = true,
            };
        }
        catch
        {
            bars.Dispose();
            throw;
        }
    }

    /// <summary>Takes them out; all or none.</summary>
    public void TakeOut()
    {
        foreach (var (context, mappings) in _found)
        {
            if (mappings.Count > 0)
                _out.Add(TakenOutBars.TakeOut(context, mappings));
        }
    }

    /// <summary>Puts back what was taken out, to where the guest has it now. What it has nowhere any more stays out.</summary>
    public void PutBack(IReadOnlyList<PassedThroughDevice> now)
    {
        while (_out.Count > 0)
        {
            _out[^1].PutBack(mapping => Moved(mapping, now));
            _out.RemoveAt(_out.Count - 1);
        }
    }

    private static BarMapping? Moved(BarMapping mapping, IReadOnlyList<PassedThroughDevice> now)
    {
        var bar = now.FirstOrDefault(d => d.Name == mapping.Device.Name)?.Bars.FirstOrDefault(b => b.Index == mapping.Region);
        return bar is null ? null : mapping with { Range = IovaRange.Of(bar.Address + mapping.Offset, mapping.Range.Length) };
    }

    /// <summary>Puts back what is still out, and lets go of the duplicates.</summary>
    public void Dispose()
    {
        try
        {
            foreach (var taken in _out)
                taken.Dispose();
        }
        finally
        {
            foreach (var (context, _) in _found)
                context.Dispose();
            foreach (var device in _devices)
                device.Dispose();
        }
    }

    private static bool Is(PassedThroughDevice device, string path) =>
        device.Host.Length > 0 && Directory.Exists($"/sys/bus/pci/devices/{device.Host}/vfio-dev/{Path.GetFileName(path)}");

    private static List<BarMapping> Mapped(IommufdContext context, List<(VfioDevice Device, PlacedBar Bar)> placed)
    {
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
