using System.Collections.Immutable;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>Walks the QOM tree below <c>/machine</c>: every device that the machine consists of, with its type.</summary>
internal static class QomTree
{
    /// <summary>Children that are not devices: memory regions, interrupt lines, and the like, one per device and of no interest here.</summary>
    private static readonly ImmutableHashSet<string> NotDevices = ["memory-region", "irq", "iommu-memory-region", "container", "or-irq", "split-irq"];

    public static async Task<ImmutableArray<QomDevice>> ReadDevicesAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var found = new List<QomDevice>();
        var pending = new Queue<string>(["/machine"]);
        while (pending.Count > 0)
        {
            // One round of the breadth is asked at once; QEMU answers in order.
            string[] level = [.. pending];
            pending.Clear();
            foreach (var chunk in level.Chunk(8))
            {
                var answers = await Task.WhenAll(chunk.Select(path => vmm.ExecuteAsync("qom-list", new JsonObject { ["path"] = path }, cancellationToken)));
                foreach (var (path, answer) in chunk.Zip(answers))
                {
                    foreach (var property in answer.EnumerateArray())
                    {
                        var type = property.GetProperty("type").GetString()!;
                        if (!type.StartsWith("child<", StringComparison.Ordinal) || !type.EndsWith('>'))
                            continue;

                        var child = type[6..^1];
                        var childPath = $"{path}/{property.GetProperty("name").GetString()}";
                        if (NotDevices.Contains(child) && child != "container")
                            continue;
                        if (child != "container")
                            found.Add(new QomDevice(childPath, child));
                        pending.Enqueue(childPath);
                    }
                }
            }
        }

        for (var i = 0; i < found.Count; i++)
        {
            if (found[i].Id is not null || found[i].IsAnonymous)
                found[i] = found[i] with { Plug = await ReadPlugAsync(vmm, found[i].Path, cancellationToken) };
        }

        return [.. found.OrderBy(d => d.Path, StringComparer.Ordinal)];
    }

    /// <summary>A bus has one name in the machine; the path to it differs between versions where the machine brings the device along.</summary>
    private static string BusName(string path) => path[(path.LastIndexOf('/') + 1)..];

    private static async Task<string> ReadPlugAsync(Vmm vmm, string path, CancellationToken cancellationToken)
    {
        var parts = new List<string>();
        foreach (var property in new[] { "parent_bus", "addr", "slot", "socket-id", "core-id", "thread-id", "node-id" })
        {
            try
            {
                var value = await vmm.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = property }, cancellationToken);
                if (value.ToString() is { Length: > 0 } text)
                    parts.Add($"{property}={(property == "parent_bus" ? BusName(text) : text)}");
            }
            catch (QmpException)
            {
                // Not every device has every one of them.
            }
        }

        return string.Join(' ', parts);
    }
}
