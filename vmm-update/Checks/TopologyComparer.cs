using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: does the new VMM have the machine that the guest sees now? Names every difference.</summary>
internal static class TopologyComparer
{
    /// <exception cref="UpdateException">The machines differ.</exception>
    public static void Require(VmInspection now, VmInspection built)
    {
        var differences = Compare(now, built).ToList();
        if (differences.Count > 0)
        {
            throw new UpdateException(
                "topology",
                $"the new VMM built another machine: {string.Join("; ", differences.Take(8))}",
                "a device was added, removed or changed behind the supervisor's back (for example through the HMP monitor): undo that, or restart the VM")
            {
                IsRefusal = true,
            };
        }
    }

    public static IEnumerable<string> Compare(VmInspection now, VmInspection built)
    {
        if (now.MachineType != built.MachineType)
            yield return $"machine type '{now.MachineType}' became '{built.MachineType}'";
        if (now.CpuCount != built.CpuCount)
            yield return $"{now.CpuCount} vCPUs became {built.CpuCount}";
        foreach (var type in now.CpuTypes.Except(built.CpuTypes, StringComparer.Ordinal))
            yield return $"vCPU type '{type}' is missing";

        foreach (var difference in Differences(
            "memory backend",
            now.MemoryBackends.Select(b => (Key: b.Id, Value: $"{b.Size} bytes")),
            built.MemoryBackends.Select(b => (Key: b.Id, Value: $"{b.Size} bytes"))))
            yield return difference;
        if (now.AnonymousRam != built.AnonymousRam)
            yield return $"{now.AnonymousRam} bytes of RAM without a backend became {built.AnonymousRam}";

        foreach (var difference in Differences(
            "device",
            now.Devices.Where(d => d.Id is not null).Select(d => (Key: d.Id!, Value: $"{d.Type} {d.Plug}".TrimEnd())),
            built.Devices.Where(d => d.Id is not null).Select(d => (Key: d.Id!, Value: $"{d.Type} {d.Plug}".TrimEnd()))))
            yield return difference;
        foreach (var difference in Differences("device without id", Anonymous(now), Anonymous(built)))
            yield return difference;

        foreach (var difference in Differences("PCI function", RootBus(now), RootBus(built)))
            yield return difference;
        foreach (var difference in Differences(
            "block device",
            now.Blocks.Where(Matters).Select(b => (Key: b.Name, Value: b.File ?? "no medium")),
            built.Blocks.Where(Matters).Select(b => (Key: b.Name, Value: b.File ?? "no medium"))))
            yield return difference;
    }

    private static bool Matters(BlockDevice block) => block.Attached || block.File is not null;

    private static IEnumerable<(string Key, string Value)> RootBus(VmInspection vm) =>
        vm.PciDevices.Where(d => d.OnRootBus).Select(d => (d.Path, $"{d.Vendor:x4}:{d.Device:x4}"));

    private static IEnumerable<(string Key, string Value)> Anonymous(VmInspection vm) =>
        vm.Devices.Where(d => d.IsAnonymous)
            .GroupBy(d => $"{d.Type} {d.Plug}".TrimEnd(), StringComparer.Ordinal)
            .Select(g => (g.Key, $"{g.Count()} times"));

    private static IEnumerable<string> Differences(
        string kind, IEnumerable<(string Key, string Value)> now, IEnumerable<(string Key, string Value)> built)
    {
        var left = ToDictionary(now);
        var right = ToDictionary(built);
        foreach (var (key, value) in left)
        {
            if (!right.TryGetValue(key, out var other))
                yield return $"{kind} '{key}' ({value}) is missing in the new VMM";
            else if (other != value)
                yield return $"{kind} '{key}' is {value} in the old VMM and {other} in the new one";
        }

        foreach (var (key, value) in right.Where(r => !left.ContainsKey(r.Key)))
            yield return $"{kind} '{key}' ({value}) is only in the new VMM";
    }

    private static Dictionary<string, string> ToDictionary(IEnumerable<(string Key, string Value)> items)
    {
        var result = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (key, value) in items)
            result[key] = result.TryGetValue(key, out var other) ? $"{other} and {value}" : value;
        return result;
    }
}
