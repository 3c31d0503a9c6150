using System.Collections.Immutable;
using System.Text.Json;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.PassThrough;

/// <summary>Reads what a VMM says of its passed-through devices.</summary>
internal static class PassThroughReader
{
    private const string TypePrefix = "vfio-";
    private const string PciDevices = "/sys/bus/pci/devices";
    private const string MediatedDevices = "/sys/bus/mdev/devices";

    public static async Task<ImmutableArray<PassedThroughDevice>> ReadAsync(Vmm vmm, IEnumerable<QomDevice> devices, CancellationToken cancellationToken)
    {
        var found = ImmutableArray.CreateBuilder<PassedThroughDevice>();
        foreach (var device in devices.Where(d => d.Type.StartsWith(TypePrefix, StringComparison.Ordinal)))
        {
            var iommufd = await QomReader.TryReadAsync(vmm, device.Path, "iommufd", cancellationToken);
            string[] names = [await ReadAsync("host"), Path.GetFileName(await ReadAsync("sysfsdev"))];
            var host = names.FirstOrDefault(static name => IsIn(PciDevices, name)) ?? ""; // a device that was given by descriptor alone has a number made of ones
            found.Add(new PassedThroughDevice(
                device.Id ?? device.Path,
                device.Type,
                device.Id is not null,
                host,
                iommufd is { ValueKind: JsonValueKind.String } link && link.GetString()!.Length > 0,
                [])
            {
                IsMediated = names.Any(static name => IsIn(MediatedDevices, name)),
                HasFunctionLevelReset = await HasFunctionLevelResetAsync(host, cancellationToken),
            });

            async Task<string> ReadAsync(string property) => (await QomReader.TryReadAsync(vmm, device.Path, property, cancellationToken))?.GetString() ?? "";
        }

        return found.Count == 0 ? [] : await PlaceAsync(vmm, found.ToImmutable(), cancellationToken);
    }

    /// <summary>Where the guest has the BARs now; it may move them at any time while it runs.</summary>
    public static async Task<ImmutableArray<PassedThroughDevice>> PlaceAsync(
        Vmm vmm, ImmutableArray<PassedThroughDevice> devices, CancellationToken cancellationToken)
    {
        var bars = new Dictionary<string, ImmutableArray<PlacedBar>>(StringComparer.Ordinal);
        foreach (var bus in (await vmm.ExecuteAsync("query-pci", cancellationToken)).EnumerateArray())
            Collect(bus.GetProperty("devices"), bars);
        return [.. devices.Select(d => d with { Bars = bars.GetValueOrDefault(d.Name, []) })];
    }

    private static bool IsIn(string bus, string name) => name.Length > 0 && Directory.Exists($"{bus}/{name}");

    /// <summary><c>reset_method</c> of Documentation/ABI/testing/sysfs-bus-pci: such as "af_flr pm bus". What may not be read is taken for none, which is the safe side.</summary>
    private static async Task<bool> HasFunctionLevelResetAsync(string host, CancellationToken cancellationToken)
    {
        var methods = $"{PciDevices}/{host}/reset_method";
        try
        {
            return host.Length > 0 && File.Exists(methods) && (await File.ReadAllTextAsync(methods, cancellationToken)).Contains("flr", StringComparison.Ordinal);
        }
        catch (UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static void Collect(JsonElement functions, Dictionary<string, ImmutableArray<PlacedBar>> bars)
    {
        foreach (var function in functions.EnumerateArray())
        {
            if (function.GetProperty("qdev_id").GetString() is { Length: > 0 } id)
                bars[id] = [.. function.GetProperty("regions").EnumerateArray().Select(Placed).OfType<PlacedBar>()];
            if (function.TryGetProperty("pci_bridge", out var bridge) && bridge.TryGetProperty("devices", out var behind))
                Collect(behind, bars);
        }
    }

    /// <summary>Memory only, and not what the guest has not placed, whose address is -1.</summary>
    private static PlacedBar? Placed(JsonElement region) =>
        region.GetProperty("type").GetString() == "memory" && region.GetProperty("address").GetInt64() is > 0 and var address
            ? new PlacedBar(region.GetProperty("bar").GetInt32(), (ulong)address, (ulong)region.GetProperty("size").GetInt64())
            : null;
}
