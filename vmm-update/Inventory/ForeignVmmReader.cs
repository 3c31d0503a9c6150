using System.Collections.Immutable;
using System.Text.Json.Nodes;
using CprSharp.Iommufd;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Inventory;

/// <summary>What one of a VMM's address spaces holds; the numbers are null where the kernel could not be asked.</summary>
/// <param name="Iommufd">The descriptor's number in the VMM.</param>
/// <param name="Ioas">The address space.</param>
/// <param name="Areas">By address.</param>
internal sealed record ForeignAddressSpace(int? Iommufd, IoasId? Ioas, ImmutableArray<InventoryArea> Areas);

/// <summary>What is known of a VMM that keeps no journal.</summary>
/// <param name="AddressSpaces">One or more.</param>
/// <param name="NotProbed">Why the kernel could not be asked; null when it was.</param>
internal sealed record ForeignVmm(ImmutableArray<ForeignAddressSpace> AddressSpaces, string? NotProbed);

/// <summary>
/// Rebuilds what the devices of a VMM can reach: from its memory tree, its blocks of memory and its BARs (QMP), its mappings (/proc), and what the
/// kernel shows of its address spaces, on duplicates of its descriptors. Changes nothing.
/// </summary>
internal static class ForeignVmmReader
{
    /// <summary>QEMU maps memory with a descriptor by file since then (IOMMU_IOAS_MAP_FILE).</summary>
    private static readonly (int Major, int Minor) MapsByFile = (10, 1);

    /// <exception cref="UpdateException">What the VMM says is not understood.</exception>
    public static async Task<ForeignVmm> ReadAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var facts = await FactsAsync(vmm, cancellationToken);
        PassThroughDescriptors descriptors;
        try
        {
            descriptors = PassThroughDescriptors.Duplicate(vmm.PidFd, []);
        }
        catch (UpdateException e) when (e.IsRefusal)
        {
            return NotProbed($"{e.Message}; {e.Fix}");
        }

        using (descriptors)
        {
            if (descriptors.Contexts.Count == 0)
                return NotProbed("the VMM has no iommufd open: no device of this VM reaches its memory by one");
            return new ForeignVmm([.. descriptors.Contexts.SelectMany(c => Probe(c.Number, c.Context, facts))], null);
        }

        ForeignVmm NotProbed(string why) => new([new ForeignAddressSpace(null, null, ForeignInventory.Rebuild(facts))], why);
    }

    private static IEnumerable<ForeignAddressSpace> Probe(int number, IommufdContext context, ForeignFacts facts)
    {
        var edges = Edges(facts.Regions);
        using var probe = new ContextProbe(context);
        return [.. probe.FindIoases().Select(ioas => new ForeignAddressSpace(number, ioas, ForeignInventory.Rebuild(facts with { Observed = probe.Observe(ioas, edges) })))];
    }

    /// <summary>Where areas are thought to begin and to end: what the probe finds is split there, because access is a whole extent's. The kernel is asked for whole pages.</summary>
    internal static ImmutableArray<ulong> Edges(IEnumerable<GuestRegion> regions) =>
        [.. regions.Select(r => r.Addresses.WholePages()).OfType<IovaRange>().SelectMany(pages => new[] { pages.Start, unchecked(pages.Last + 1) })];

    private static async Task<ForeignFacts> FactsAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        ImmutableArray<MemoryBlock> blocks;
        ImmutableArray<GuestRegion> regions;
        try
        {
            var files = await FilesAsync(vmm, cancellationToken);
            blocks = [.. MemoryText.Blocks(await AskAsync("info ramblock")).Select(b => files.TryGetValue(b.Name, out var file) ? b with { File = file } : b)];
            regions = [.. MemoryText.Regions(await AskAsync("info mtree -f"), MemoryText.SystemMemory).Select(r => MemoryText.Named(r, blocks))];
        }
        catch (FormatException e)
        {
            throw new UpdateException("memory-tree", $"what QEMU {vmm.Version} says of its memory is not understood: {e.Message}", "report this, with the output of `info mtree -f` and `info ramblock`", e);
        }

        var devices = await PassThroughReader.ReadAsync(vmm, await QomTree.ReadDevicesAsync(vmm, cancellationToken), cancellationToken);
        return new ForeignFacts(
            vmm.Pid,
            regions,
            blocks,
            [.. regions.Where(r => r.Kind == GuestRegionKind.RamDevice).SelectMany(r => Bars(r, devices))],
            ProcFs.Maps(vmm.Pid),
            vmm.Version.AtLeast(MapsByFile.Major, MapsByFile.Minor) ? ForeignMapping.ByFile : ForeignMapping.ByAddress,
            null);

        async Task<string> AskAsync(string line) =>
            (await vmm.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = line }, cancellationToken)).GetString()!;
    }

    /// <summary>The files of the memory backends that have one, by the name of their block.</summary>
    private static async Task<Dictionary<string, FileIdentity>> FilesAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var files = new Dictionary<string, FileIdentity>(StringComparer.Ordinal);
        foreach (var backend in (await vmm.ExecuteAsync("query-memdev", cancellationToken)).EnumerateArray())
        {
            if (!backend.TryGetProperty("id", out var id) || await QomReader.TryReadAsync(vmm, $"/objects/{id.GetString()}", "mem-path", cancellationToken) is not { } path)
                continue;
            if (Identify(vmm.Pid, path.GetString()!) is not { } file)
                continue;
            files[id.GetString()!] = file;
            files[$"/objects/{id.GetString()}"] = file; // in machines with x-use-canonical-path-for-ramblock-id
        }

        return files;
    }

    /// <summary>As the VMM sees the path; null where that cannot be looked at.</summary>
    private static FileIdentity? Identify(int pid, string path)
    {
        const string self = "/proc/self/";
        try
        {
            using var file = File.OpenHandle(
                path.StartsWith(self, StringComparison.Ordinal) ? $"/proc/{pid}/{path[self.Length..]}" : $"/proc/{pid}/root{path}",
                FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            return FileIdentity.Of(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The BAR, or the part of it, that a stretch of the memory tree shows: the tree says what is mapped, query-pci whose it is.</summary>
    private static IEnumerable<GuestBar> Bars(GuestRegion region, ImmutableArray<PassedThroughDevice> devices) =>
        from device in devices
        from bar in device.Bars
        where IovaRange.Of(bar.Address, bar.Size).Contains(region.Addresses)
        select new GuestBar(device.Host, bar.Index, region.Addresses, new VfioRegionPart(region.Addresses.Start - bar.Address, region.Addresses.Length));
}
