using System.Diagnostics;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Update;

/// <summary>Looks whether a VMM that has stopped its guest has really nothing under way on its io_uring instances.</summary>
/// <remarks>
/// QEMU drains its disks before it reports completion. If that ever failed, the new VMM would run the guest while the kernel still writes for
/// the old one: so it is not taken on trust where it can be seen. Linux AIO cannot be seen from outside.
/// </remarks>
internal sealed class RingDrain(IReadOnlyList<int> rings, Func<int, IoUringInfo?> read, TimeSpan longest)
{
    /// <summary>How long requests may still be under way after QEMU has said that there are none.</summary>
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(1);

    /// <summary>Of all instances that a VMM has now.</summary>
    public static RingDrain Of(Vmm vmm)
    {
        var drain = new RingDrain(
            [.. ProcFs.Descriptors(vmm.Pid).Where(d => d.Info.Kind == DescriptorKind.IoUring).Select(d => d.Number)],
            number => IoUringInfo.Read(vmm.Pid, number),
            Longest);
        drain.Busy(); // what looking needs is loaded then, before the pause
        return drain;
    }

    /// <summary>Returns when nothing is under way.</summary>
    /// <exception cref="UpdateException">Something still is.</exception>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        for (var watch = Stopwatch.StartNew(); Busy() is { } busy; await Task.Delay(1, cancellationToken))
        {
            if (watch.Elapsed > longest)
                throw new UpdateException("io-in-flight", $"the old VMM has reported that its state is out, but {busy}", "look at the disks of this host, and at the old VMM's log");
        }
    }

    private string? Busy()
    {
        foreach (var ring in rings)
        {
            try
            {
                // What is not known now is asked again.
                if (read(ring) is var info && info is not { InFlight: 0 })
                    return info is null ? $"the kernel does not tell what is under way on io_uring instance {ring}" : $"{info.InFlight} requests are under way on io_uring instance {ring}";
            }
            catch (SyscallException e) when (e.Errno is Errno.ENOENT or Errno.ESRCH)
            {
                // Closed: the kernel has waited for what was under way.
            }
        }

        return null;
    }
}
