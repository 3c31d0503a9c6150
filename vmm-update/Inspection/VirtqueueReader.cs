using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>One virtqueue.</summary>
/// <param name="Device">QOM path of the virtio device.</param>
/// <param name="Index">The queue's index.</param>
/// <param name="Ring">Entries in the ring that the guest's driver set up, or would find now.</param>
/// <param name="Allocated">Entries that the VMM has room for.</param>
internal sealed record Virtqueue(string Device, int Index, int Ring, int Allocated);

/// <summary>Reads the virtqueues' sizes (<c>x-query-virtio-queue-status</c>, QEMU ≥ 7.2).</summary>
/// <remarks>
/// For a queue that a vhost-user process serves, the command asks that process for the ring's base, which by vhost-user's protocol stops the ring:
/// the guest's next request is never answered. So nothing is asked of a VM that has one; it stays where it is anyway.
/// </remarks>
internal static class VirtqueueReader
{
    public static async Task<ImmutableArray<Virtqueue>> ReadAsync(Vmm vmm, IEnumerable<QomDevice> machine, CancellationToken cancellationToken)
    {
        if (await HasVhostUserAsync(vmm, machine, cancellationToken))
            return [];
        JsonElement devices;
        try
        {
            devices = await vmm.ExecuteAsync("x-query-virtio", cancellationToken);
        }
        catch (QmpException)
        {
            return []; // built without virtio, or too old to tell
        }

        var queues = ImmutableArray.CreateBuilder<Virtqueue>();
        foreach (var device in devices.EnumerateArray())
        {
            var path = device.GetProperty("path").GetString()!;
            for (var index = 0; await TryReadAsync(vmm, path, index, cancellationToken) is { } queue; index++)
                queues.Add(queue);
        }

        return queues.ToImmutable();
    }

    /// <summary>As a device of its own, or behind a device of QEMU's, which cannot be told by that.</summary>
    private static async Task<bool> HasVhostUserAsync(Vmm vmm, IEnumerable<QomDevice> machine, CancellationToken cancellationToken)
    {
        if (machine.Any(d => d.Type.StartsWith("vhost-user", StringComparison.Ordinal)))
            return true;
        var objects = await vmm.ExecuteAsync("qom-list", new JsonObject { ["path"] = "/objects" }, cancellationToken);
        if (objects.EnumerateArray().Any(o => o.GetProperty("type").GetString() == "child<cryptodev-vhost-user>"))
            return true;
        var network = await vmm.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = "info network" }, cancellationToken);
        return network.GetString()!.Contains("type=vhost-user", StringComparison.Ordinal);
    }

    private static async Task<Virtqueue?> TryReadAsync(Vmm vmm, string path, int index, CancellationToken cancellationToken)
    {
        try
        {
            var status = await vmm.ExecuteAsync("x-query-virtio-queue-status", new JsonObject { ["path"] = path, ["queue"] = index }, cancellationToken);
            return new Virtqueue(path, index, status.GetProperty("vring-num").GetInt32(), status.GetProperty("vring-num-default").GetInt32());
        }
        catch (QmpException)
        {
            return null; // no queue of that index
        }
    }
}
