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

    public static async Task<ImmutableArray<PassedThroughDevice>> ReadAsync(Vmm vmm, IEnumerable<QomDevice> devices, CancellationToken cancellationToken)
    {
        var found = ImmutableArray.CreateBuilder<PassedThroughDevice>();
        foreach (var device in devices.Where(d => d.Type.StartsWith(TypePrefix, StringComparison.Ordinal)))
        {
            var iommufd = await QomReader.TryReadAsync(vmm, device.Path, "iommufd", cancellationToken);
            var named = (await QomReader.TryReadAsync(vmm, device.Path, "host", cancellationToken))?.GetString() ?? "";
            var host = Directory.Exists($"{PciDevices}/{named}") ? named : ""; // a device that was given by descriptor alone has a number made of ones
            found.Add(new PassedThroughDevice(
                device.Id ?? device.Path,
                device.Type,
                device.Id is not null,
                host,
                iommufd is { ValueKind: JsonValueKind.String } link && link.GetString()!.Length > 0,
                [])
            {
                HasFunctionLevelReset = await HasFunctionLevelResetAsync(host, cancellationToken),
            });
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

    /// <summary><c>reset_method</c> of Documentation/ABI/testing/sysfs-bus-pci: such as "af_flr pm bus".</summary>
    private static async Task<bool> HasFunctionLevelResetAsync(string host, CancellationToken cancellationToken)
    {
        var methods = $"{PciDevices}/{host}/reset_method";
        return host.Length > 0 && File.Exists(methods) && (await File.ReadAllTextAsync(methods, cancellationToken)).Contains("flr", StringComparison.Ordinal);
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
