using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: is there room in the new VMM for the rings that the guest's virtio drivers have set up.</summary>
/// <remarks>
/// QEMU 10.0.13 and other stable releases give every virtqueue 1024 entries, whatever the device asks for (<c>virtio_add_queue</c>,
/// "Always set to max queue size for qemu &lt;11.1"); 11.1 gives the device's own number again and refuses a larger ring
/// ("VQ %d vring.num %u exceeds allocated max %u"). So a device with a smaller queue can come from such a release only if the driver chose
/// a smaller ring.
/// </remarks>
internal static class VirtqueueRules
{
    public static IEnumerable<Finding> Compare(VmInspection now, VmInspection built)
    {
        var room = built.Virtqueues.ToDictionary(q => (q.Device, q.Index), q => q.Allocated);
        var tooSmall = now.Virtqueues
            .Where(q => Corresponds(q, now, built) && room.TryGetValue((q.Device, q.Index), out var allocated) && q.Ring > allocated)
            .GroupBy(q => q.Device, StringComparer.Ordinal)
            .ToList();
        foreach (var device in tooSmall)
        {
            var queue = device.First();
            yield return Finding.Fail(
                "virtqueue-size", device.Key,
                $"queue {queue.Index} has a ring of {queue.Ring} entries in QEMU {now.Facts.Version}; QEMU {built.Facts.Version} allocates {room[(queue.Device, queue.Index)]} and refuses it",
                "restart the VM on the new binary, or start it with queues of 1024 entries where the device has such a property (virtio-blk: queue-size=1024)");
        }

        if (tooSmall.Count == 0 && now.Virtqueues.Length > 0)
            yield return Finding.Pass("virtqueue-size", "virtio devices", $"{now.Virtqueues.Length} queues, all with room in the new VMM");
    }

    /// <summary>A driver that uses several queue pairs has made more queues than a device has at first, in front of the last one, the control queue.</summary>
    private static bool Corresponds(Virtqueue queue, VmInspection now, VmInspection built)
    {
        var before = now.Virtqueues.Count(q => q.Device == queue.Device);
        var after = built.Virtqueues.Count(q => q.Device == queue.Device);
        return before == after || queue.Index < Math.Min(before, after) - 1;
    }
}
