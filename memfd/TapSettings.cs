using System.Runtime.InteropServices;
using System.Text;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>What a VMM sets on its tap device when the guest's driver asks for it.</summary>
/// <param name="HeaderBytes">Length of the virtio-net header before each frame, in bytes; 0 for a device without.</param>
/// <param name="Offloads">What frames to the guest may leave undone: TUN_F_* of linux/if_tun.h.</param>
/// <param name="Attached">Which queues take part, in their order.</param>
public sealed record TapSettings(int HeaderBytes, uint Offloads, IReadOnlyList<bool> Attached)
{
    private const int FeatureBlocks = 4;
    private const int MostNames = 256;
    private const int NameBytes = 32;

    /// <summary>The kernel's names of the features that TUNSETOFFLOAD sets (net/ethtool/common.c, drivers/net/tun.c).</summary>
    private static readonly (string Name, uint Offload)[] Features =
    [
        ("tx-checksum-ip-generic", 0x01), ("tx-tcp-segmentation", 0x02), ("tx-tcp6-segmentation", 0x04), ("tx-tcp-ecn-segmentation", 0x08),
        ("tx-udp-segmentation", 0x20 | 0x40), ("tx-udp_tnl-segmentation", 0x80), ("tx-udp_tnl-csum-segmentation", 0x100),
    ];

    /// <summary>The header's length of a queue's device.</summary>
    /// <exception cref="SyscallException">TUNGETIFF, TUNGETVNETHDRSZ: not a queue of a tap device.</exception>
    public static int HeaderBytesOf(SafeHandle queue)
    {
        var request = default(LibC.ifreq_t);
        TapDevice.Control(queue, LibC.TUNGETIFF, ref request, "TUNGETIFF", null);
        if ((request.ifr_flags & LibC.IFF_VNET_HDR) == 0)
            return 0;
        var bytes = 0;
        return LibC.ioctl(queue, LibC.TUNGETVNETHDRSZ, ref bytes) == 0 ? bytes : throw SyscallException.FromLastError("TUNGETVNETHDRSZ", null);
    }

    /// <summary>Sets the header's length, on a device that has one.</summary>
    /// <exception cref="SyscallException">TUNSETVNETHDRSZ: EINVAL (shorter than 10 bytes).</exception>
    public static void SetHeaderBytes(SafeHandle queue, int bytes)
    {
        if (bytes > 0 && bytes != HeaderBytesOf(queue) && LibC.ioctl(queue, LibC.TUNSETVNETHDRSZ, ref bytes) != 0)
            throw SyscallException.FromLastError("TUNSETVNETHDRSZ", null);
    }

    /// <summary>Whether a queue takes part.</summary>
    /// <exception cref="SyscallException">TUNGETIFF: not a queue of a tap device.</exception>
    public static bool IsAttached(SafeHandle queue)
    {
        var request = default(LibC.ifreq_t);
        TapDevice.Control(queue, LibC.TUNGETIFF, ref request, "TUNGETIFF", null);
        return (request.ifr_flags & LibC.IFF_DETACH_QUEUE) == 0;
    }

    /// <summary>Reads them.</summary>
    /// <param name="queues">All queues of the device.</param>
    /// <param name="socket">Any socket in its network namespace.</param>
    /// <param name="name">Its name there.</param>
    /// <exception cref="SyscallException">SIOCETHTOOL and others.</exception>
    internal static TapSettings Read(IReadOnlyList<SafeHandle> queues, SafeHandle socket, string name)
    {
        var attached = new bool[queues.Count];
        for (var i = 0; i < attached.Length; i++)
            attached[i] = IsAttached(queues[i]);
        return new(HeaderBytesOf(queues[0]), OffloadsOf(socket, name), attached);
    }

    /// <summary>Makes them a device's.</summary>
    /// <param name="queues">All queues of the device.</param>
    /// <exception cref="SyscallException">TUNSETVNETHDRSZ, TUNSETOFFLOAD, TUNSETQUEUE: EINVAL, EPERM.</exception>
    public void Apply(IReadOnlyList<SafeHandle> queues)
    {
        SetHeaderBytes(queues[0], HeaderBytes);
        if (HeaderBytes > 0 && LibC.ioctl(queues[0], LibC.TUNSETOFFLOAD, (nint)Offloads) != 0)
            throw SyscallException.FromLastError("TUNSETOFFLOAD", $"0x{Offloads:x}");
        for (var i = 0; i < queues.Count && i < Attached.Count; i++)
        {
            if (IsAttached(queues[i]) == Attached[i])
                continue;
            var request = new LibC.ifreq_t { ifr_flags = Attached[i] ? LibC.IFF_ATTACH_QUEUE : LibC.IFF_DETACH_QUEUE };
            TapDevice.Control(queues[i], LibC.TUNSETQUEUE, ref request, "TUNSETQUEUE", null);
        }
    }

    private static unsafe uint OffloadsOf(SafeHandle socket, string name)
    {
        var names = new byte[12 + MostNames * NameBytes];
        var head = MemoryMarshal.Cast<byte, uint>(names.AsSpan());
        (head[0], head[1]) = (LibC.ETHTOOL_GSTRINGS, LibC.ETH_SS_FEATURES);
        Ethtool(socket, name, names);
        var features = new uint[2 + FeatureBlocks * 4];
        (features[0], features[1]) = (LibC.ETHTOOL_GFEATURES, FeatureBlocks);
        Ethtool(socket, name, MemoryMarshal.AsBytes(features.AsSpan()));

        var offloads = 0u;
        var count = (int)Math.Min(head[2], MostNames);
        for (var bit = 0; bit < count && bit < FeatureBlocks * 32; bit++)
        {
            const int activeWord = 2;
            if ((features[2 + bit / 32 * 4 + activeWord] >> (bit % 32) & 1) == 0)
                continue;
            var feature = Encoding.ASCII.GetString(names, 12 + bit * NameBytes, NameBytes).TrimEnd('\0');
            offloads |= Array.Find(Features, f => f.Name == feature).Offload;
        }

        return offloads;
    }

    private static unsafe void Ethtool(SafeHandle socket, string name, Span<byte> data)
    {
        fixed (byte* bytes = data)
        {
            var request = new LibC.ifreq_data_t { ifr_data = bytes };
            Encoding.UTF8.GetBytes(name, new Span<byte>(request.ifr_name, LibC.ifreq_t.NameBytes - 1));
            if (LibC.ioctl_data(socket, LibC.SIOCETHTOOL, ref request) != 0)
                throw SyscallException.FromLastError("SIOCETHTOOL", name);
        }
    }
}
