using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>How a tap device's queue is made.</summary>
/// <param name="VnetHeader">Frames carry a virtio-net header, and with it checksum and segmentation offloads.</param>
/// <param name="MultiQueue">The device may have further queues.</param>
public readonly record struct TapFlags(bool VnetHeader, bool MultiQueue);

/// <summary>A queue of a tap device (/dev/net/tun), non-blocking. The device lives as long as a queue of it, unless it is persistent.</summary>
public sealed class TapDevice : IDisposable
{
    private TapDevice(SafeFileHandle queue, string name)
    {
        Queue = queue;
        Name = name;
    }

    /// <summary>The queue's descriptor, owned by this object.</summary>
    public SafeFileHandle Queue { get; }

    /// <summary>The device's name.</summary>
    public string Name { get; }

    /// <summary>Makes a device, or attaches to one that exists.</summary>
    /// <param name="name">Its name; with <c>%d</c> the kernel numbers it; empty for <c>tap%d</c>.</param>
    /// <param name="flags">Must agree with what an existing device has.</param>
    /// <exception cref="SyscallException">open: ENOENT (no tun driver), EACCES; TUNSETIFF: EPERM (CAP_NET_ADMIN, or the device's owner), EBUSY (in use), EINVAL.</exception>
    public static TapDevice Open(string name, TapFlags flags)
    {
        var queue = LibC.Open("/dev/net/tun", LibC.O_RDWR | LibC.O_NONBLOCK);
        try
        {
            var request = new LibC.ifreq_t
            {
                Name = name.Length == 0 ? "tap%d" : name,
                ifr_flags = (short)(LibC.IFF_TAP | LibC.IFF_NO_PI | (flags.VnetHeader ? LibC.IFF_VNET_HDR : 0) | (flags.MultiQueue ? LibC.IFF_MULTI_QUEUE : 0)),
            };
            Control(queue, LibC.TUNSETIFF, ref request, "TUNSETIFF", name);
            return new TapDevice(queue, request.Name);
        }
        catch
        {
            queue.Dispose();
            throw;
        }
    }

    /// <summary>What kind of queue a descriptor is.</summary>
    /// <exception cref="SyscallException">TUNGETIFF: ENOTTY, EINVAL, EBADFD (not an attached queue of a tap device).</exception>
    public static TapFlags FlagsOf(SafeFileHandle queue)
    {
        var request = default(LibC.ifreq_t);
        Control(queue, LibC.TUNGETIFF, ref request, "TUNGETIFF", null);
        return new TapFlags((request.ifr_flags & LibC.IFF_VNET_HDR) != 0, (request.ifr_flags & LibC.IFF_MULTI_QUEUE) != 0);
    }

    /// <summary>The name of the device that a queue belongs to.</summary>
    /// <exception cref="SyscallException">TUNGETIFF: not an attached queue of a tap device.</exception>
    public static string NameOf(SafeFileHandle queue)
    {
        var request = default(LibC.ifreq_t);
        Control(queue, LibC.TUNGETIFF, ref request, "TUNGETIFF", null);
        return request.Name;
    }

    /// <inheritdoc/>
    public void Dispose() => Queue.Dispose();

    internal static void Control(SafeHandle descriptor, uint code, ref LibC.ifreq_t request, string name, string? subject)
    {
        if (LibC.ioctl(descriptor, code, ref request) != 0)
            throw SyscallException.FromLastError(name, subject);
    }
}
