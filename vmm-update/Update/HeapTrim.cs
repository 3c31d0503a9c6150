using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Has a VMM give freed memory back before the pause, which it would otherwise do in the middle of it.</summary>
/// <remarks>
/// QEMU's RCU thread calls <c>malloc_trim</c> whenever its queue has become empty (<c>util/rcu.c</c>), and holds the heap's locks meanwhile.
/// The first changes of a memory map, when a migration and a load begin, set that off, and the answers to an inspection leave much to trim:
/// measured with QEMU 11.1, 3 to 4 ms for which the new VMM's load waits, and 9 ms of a processor in the old one.
/// </remarks>
internal static partial class HeapTrim
{
    private const string Id = "cprsharp-heap-trim";

    /// <summary>Sets it off: freeing a RAM block goes through the RCU queue. Does not wait for the end. A VMM that refuses only pauses longer.</summary>
    public static async Task ProvokeAsync(Vmm vmm, ILogger logger, CancellationToken cancellationToken)
    {
        try
        {
            // Both are under way before either is waited for, so that whoever cancels leaves no backend behind.
            var added = vmm.ExecuteAsync("object-add", new JsonObject { ["qom-type"] = "memory-backend-ram", ["id"] = Id, ["size"] = 4096, ["share"] = true }, cancellationToken);
            var removed = vmm.ExecuteAsync("object-del", new JsonObject { ["id"] = Id }, cancellationToken);
            await Task.WhenAll(added, removed);
        }
        catch (QmpException e)
        {
            LogRefused(logger, vmm.Pid, e.Description);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "the VMM with pid {Pid} was not made to trim its heap before the pause: {Reason}")]
    private static partial void LogRefused(ILogger logger, int pid, string reason);
}
