using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>Tap devices (linux/if_tun.h, linux/if.h) and the network namespace of a thread.</summary>
internal static partial class LibC
{
    internal const uint TUNSETIFF = 0x400454ca;
    internal const uint TUNGETIFF = 0x800454d2;
    internal const uint SIOCGIFFLAGS = 0x8913;
    internal const uint SIOCSIFFLAGS = 0x8914;
    internal const uint SIOCGIFINDEX = 0x8933;
    internal const short IFF_TAP = 0x0002;
    internal const short IFF_NO_PI = 0x1000;
    internal const short IFF_VNET_HDR = 0x4000;
    internal const short IFF_MULTI_QUEUE = 0x0100;
    internal const short IFF_UP = 0x0001;
    internal const int CLONE_NEWNET = 0x40000000;
    internal const int AF_PACKET = 17;
    internal const int SOCK_RAW = 3;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int unshare(int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ioctl(SafeHandle fd, nuint request, ref ifreq_t argument);

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

    /// <summary>struct sockaddr_ll.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 20)]
    internal struct sockaddr_ll_t
    {
        internal ushort sll_family;
        internal ushort sll_protocol;
        internal int sll_ifindex;
    }
}
