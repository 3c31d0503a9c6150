using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>Reads a VM through QMP.</summary>
internal static class VmInspector
{
    public static async Task<VmInspection> InspectAsync(Vmm vmm, QemuBinary facts, CancellationToken cancellationToken)
    {
        var backends = await ReadMemoryBackendsAsync(vmm, cancellationToken);
        var memory = await vmm.ExecuteAsync("query-memory-size-summary", cancellationToken);
        var total = memory.GetProperty("base-memory").GetInt64() + (memory.TryGetProperty("plugged-memory", out var plugged) ? plugged.GetInt64() : 0);
        var migration = await vmm.ExecuteAsync("query-migrate", cancellationToken);
        var cpus = (await vmm.ExecuteAsync("query-cpus-fast", cancellationToken)).EnumerateArray().OrderBy(c => c.GetProperty("cpu-index").GetInt32()).ToList();
        var devices = await QomTree.ReadDevicesAsync(vmm, cancellationToken);
        return new VmInspection
        {
            Facts = facts,
            MachineType = await ReadMachineTypeAsync(vmm, cancellationToken),
            RunState = await vmm.QueryRunStateAsync(cancellationToken),
            AuxRamShared = await QomReader.TryReadAsync(vmm, "/machine", "aux-ram-share", cancellationToken) is { ValueKind: JsonValueKind.True },
            Accelerator = await ReadAcceleratorAsync(vmm, cancellationToken),
            MemoryBackends = backends,
            AnonymousRam = Math.Max(0, total - backends.Sum(b => b.Size)),
            CpuTypes = [.. await CpuReader.ReadTypesAsync(vmm, cpus, cancellationToken)],
            CpuFeatures = await CpuReader.ReadFeaturesAsync(vmm, cpus, cancellationToken),
            CpuThreads = [.. cpus.Select(c => c.GetProperty("thread-id").GetInt32())],
            PciDevices = await ReadPciAsync(vmm, cancellationToken),
            Devices = devices,
            PassedThrough = await PassThroughReader.ReadAsync(vmm, devices, cancellationToken),
            Virtqueues = await VirtqueueReader.ReadAsync(vmm, devices, cancellationToken),
            Blocks = await ReadBlocksAsync(vmm, cancellationToken),
            Jobs = await ReadJobsAsync(vmm, cancellationToken),
            CharDevices = [.. (await vmm.ExecuteAsync("query-chardev", cancellationToken)).EnumerateArray().Select(c => new CharDevice(
                c.GetProperty("label").GetString()!,
                c.GetProperty("filename").GetString()!,
                c.TryGetProperty("frontend-open", out var open) && open.GetBoolean()))],
            BlockedReasons = migration.TryGetProperty("blocked-reasons", out var reasons) ? [.. reasons.EnumerateArray().Select(r => r.GetString()!)] : [],
            MigrationStatus = migration.TryGetProperty("status", out var status) ? status.GetString()! : "",
        };
    }

    public static async Task<string> ReadMachineTypeAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        const string suffix = "-machine";
        var type = await vmm.ExecuteAsync("qom-get", new JsonObject { ["path"] = "/machine", ["property"] = "type" }, cancellationToken);
        var name = type.GetString()!;
        return name.EndsWith(suffix, StringComparison.Ordinal) ? name[..^suffix.Length] : name;
    }

    private static async Task<string> ReadAcceleratorAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var kvm = await vmm.ExecuteAsync("query-kvm", cancellationToken);
        return kvm.GetProperty("enabled").GetBoolean() ? "kvm" : "tcg";
    }

    private static async Task<ImmutableArray<MemoryBackend>> ReadMemoryBackendsAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var list = ImmutableArray.CreateBuilder<MemoryBackend>();
        foreach (var backend in (await vmm.ExecuteAsync("query-memdev", cancellationToken)).EnumerateArray())
        {
            var id = backend.TryGetProperty("id", out var name) ? name.GetString()! : "";
            var path = $"/objects/{id}";
            var type = await QomReader.TryReadAsync(vmm, path, "type", cancellationToken);
            var file = await QomReader.TryReadAsync(vmm, path, "mem-path", cancellationToken);
            list.Add(new MemoryBackend(
                id,
                type?.GetString() ?? "memory-backend-ram",
                backend.GetProperty("size").GetInt64(),
                backend.TryGetProperty("share", out var share) && share.GetBoolean(),
                file?.GetString()));
        }

        return list.ToImmutable();
    }

    private static async Task<ImmutableArray<PciDevice>> ReadPciAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        JsonElement buses;
        try
        {
            buses = await vmm.ExecuteAsync("query-pci", cancellationToken);
        }
        catch (QmpException)
        {
            return []; // a machine without PCI
        }

        var devices = ImmutableArray.CreateBuilder<PciDevice>();
        foreach (var bus in buses.EnumerateArray())
            Collect("", bus.GetProperty("devices"));
        return devices.ToImmutable();

        void Collect(string prefix, JsonElement list)
        {
            foreach (var device in list.EnumerateArray())
            {
                var id = device.GetProperty("id");
                var path = $"{prefix}{device.GetProperty("slot").GetInt32():x2}.{device.GetProperty("function").GetInt32():x}";
                devices.Add(new PciDevice(
                    path,
                    id.GetProperty("vendor").GetInt32(),
                    id.GetProperty("device").GetInt32(),
                    device.GetProperty("class_info").GetProperty("class").GetInt32(),
                    device.GetProperty("qdev_id").GetString() ?? ""));
                if (device.TryGetProperty("pci_bridge", out var bridge) && bridge.TryGetProperty("devices", out var behind))
                    Collect($"{path}/", behind);
            }
        }
    }

    /// <summary>A job that has concluded has only its result left to be asked for.</summary>
    private static async Task<ImmutableArray<BackgroundJob>> ReadJobsAsync(Vmm vmm, CancellationToken cancellationToken) =>
    [
        .. (await vmm.ExecuteAsync("query-jobs", cancellationToken)).EnumerateArray()
            .Select(j => new BackgroundJob(j.GetProperty("id").GetString()!, j.GetProperty("type").GetString()!, j.GetProperty("status").GetString()!))
            .Where(j => j.Status is not ("concluded" or "null")),
    ];

    private static async Task<ImmutableArray<BlockDevice>> ReadBlocksAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var blocks = await vmm.ExecuteAsync("query-block", cancellationToken);
        return
        [
            .. blocks.EnumerateArray().Select(b =>
            {
                var inserted = b.TryGetProperty("inserted", out var i) && i.ValueKind == JsonValueKind.Object ? i : (JsonElement?)null;
                var device = b.GetProperty("device").GetString();
                return new BlockDevice(
                    string.IsNullOrEmpty(device) && b.TryGetProperty("qdev", out var qdev) ? qdev.GetString()! : device ?? "",
                    inserted?.GetProperty("file").GetString(),
                    inserted is { } node && node.TryGetProperty("node-name", out var name) ? name.GetString() : null,
                    b.GetProperty("removable").GetBoolean(),
                    inserted?.GetProperty("ro").GetBoolean() ?? false)
                {
                    Attached = b.TryGetProperty("qdev", out _),
                };
            }),
        ];
    }
}
