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
internal static class VirtqueueReader
{
    public static async Task<ImmutableArray<Virtqueue>> ReadAsync(Vmm vmm, CancellationToken cancellationToken)
    {
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
