using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>Tap devices (linux/if_tun.h, linux/if.h) and the network namespace of a thread.</summary>
internal static partial class LibC
{
    internal const uint TUNSETIFF = 0x400454ca;
    internal const uint TUNGETIFF = 0x800454d2;
    internal const uint TUNSETOFFLOAD = 0x400454d0;
    internal const uint TUNGETVNETHDRSZ = 0x800454d7;
    internal const uint TUNSETVNETHDRSZ = 0x400454d8;
    internal const uint TUNSETQUEUE = 0x400454d9;
    internal const uint TUNGETDEVNETNS = 0x54e3;
    internal const uint SIOCETHTOOL = 0x8946;
    internal const uint SIOCGIFFLAGS = 0x8913;
    internal const uint SIOCSIFFLAGS = 0x8914;
    internal const uint SIOCGIFINDEX = 0x8933;
    internal const short IFF_TAP = 0x0002;
    internal const short IFF_NO_PI = 0x1000;
    internal const short IFF_VNET_HDR = 0x4000;
    internal const short IFF_MULTI_QUEUE = 0x0100;
    internal const short IFF_ATTACH_QUEUE = 0x0200;
    internal const short IFF_DETACH_QUEUE = 0x0400;
    internal const short IFF_UP = 0x0001;
    internal const int CLONE_NEWNET = 0x40000000;
    internal const int AF_PACKET = 17;
    internal const int SOCK_RAW = 3;
    internal const ushort ETH_P_ALL = 0x0300; // htons(3)
    internal const int SOL_PACKET = 263;
    internal const int PACKET_STATISTICS = 6;
    internal const int PACKET_AUXDATA = 8;
    internal const int PACKET_VNET_HDR = 15;
    internal const int PACKET_IGNORE_OUTGOING = 23;
    internal const int SO_RCVBUFFORCE = 33;
    internal const uint TP_STATUS_VLAN_VALID = 0x10;
    internal const uint ETHTOOL_GSTRINGS = 0x1b;
    internal const uint ETHTOOL_GFEATURES = 0x3a;
    internal const uint ETH_SS_FEATURES = 4;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int unshare(int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ioctl(SafeHandle fd, nuint request, ref ifreq_t argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setns(SafeHandle descriptor, int type);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ioctl(SafeHandle fd, nuint request, ref int argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ioctl(SafeHandle fd, nuint request, nint argument);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int ioctl_data(SafeHandle fd, nuint request, ref ifreq_data_t argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setsockopt(SafeHandle socket, int level, int option, in int value, int length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockopt(SafeHandle socket, int level, int option, out int value, ref int length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockopt(SafeHandle socket, int level, int option, out tpacket_stats_t value, ref int length);

    internal struct tpacket_stats_t
    {
        public uint tp_packets;
        public uint tp_drops;
    }

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int bind(SafeHandle socket, in sockaddr_ll_t address, int length);

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    internal static partial int OpenSocket(int domain, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint sendto(SafeHandle socket, ReadOnlySpan<byte> bytes, nuint length, int flags, in sockaddr_ll_t address, int addressLength);

    /// <summary>struct ifreq: a name, and 24 bytes of which an ioctl uses the first few.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 40)]
    internal unsafe struct ifreq_t
    {
        internal const int NameBytes = 16;

        internal fixed byte ifr_name[NameBytes];
        internal short ifr_flags;
        private readonly short _high;

        internal readonly int Index => (ushort)ifr_flags | (_high << 16);

        internal string Name
        {
            get
            {
                fixed (byte* name = ifr_name)
                    return Marshal.PtrToStringUTF8((nint)name) ?? "";
            }

            set
            {
                fixed (byte* name = ifr_name)
                {
                    var bytes = new Span<byte>(name, NameBytes);
                    bytes.Clear();
                    if (System.Text.Encoding.UTF8.GetByteCount(value) >= NameBytes)
                        throw new ArgumentException($"'{value}' is longer than an interface's name can be ({NameBytes - 1} bytes)", nameof(value));
                    System.Text.Encoding.UTF8.GetBytes(value, bytes);
                }
            }
        }
    }

    /// <summary>struct ifreq with a pointer, as SIOCETHTOOL takes it.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 40)]
    internal unsafe struct ifreq_data_t
    {
        internal fixed byte ifr_name[ifreq_t.NameBytes];
        internal void* ifr_data;
    }

    /// <summary>struct tpacket_auxdata (linux/if_packet.h).</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct tpacket_auxdata_t
    {
        internal uint tp_status;
        internal uint tp_len;
        internal uint tp_snaplen;
        internal ushort tp_mac;
        internal ushort tp_net;
        internal ushort tp_vlan_tci;
        internal ushort tp_vlan_tpid;
    }

    /// <summary>struct virtio_net_hdr (linux/virtio_net.h), in the machine's byte order.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 2)]
    internal struct virtio_net_hdr_t
    {
        internal byte flags;
        internal byte gso_type;
        internal ushort hdr_len;
        internal ushort gso_size;
        internal ushort csum_start;
        internal ushort csum_offset;
    }

    /// <summary>struct sockaddr_ll.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 20)]
    internal struct sockaddr_ll_t
    {
        internal ushort sll_family;
        internal ushort sll_protocol;
        internal int sll_ifindex;
    }
}
