using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>
/// A tap device in a network namespace of its own, in which nothing happens but what its user does; it goes with its descriptors. What the user
/// sends can be taken from it, frame by frame (<see cref="Receive"/>).
/// </summary>
public sealed class IsolatedTap : IDisposable
{
    /// <summary>The kernel chooses a queue by a frame's flow: so many flows miss none of a few queues.</summary>
    private const int FlowsPerQueue = 32;

    /// <summary>For frames that wait to be taken. A VMM's are taken at once; a burst must find room.</summary>
    private const int ReceiveBuffer = 32 << 20;

    /// <summary>What each of them is called, in its namespace.</summary>
    public const string DeviceName = "quiet";

    private readonly List<SafeFileHandle> _queues;
    private readonly SafeFileHandle _packets;
    private readonly LibC.sockaddr_ll_t _address;

    private IsolatedTap(List<SafeFileHandle> queues, SafeFileHandle packets, int index)
    {
        _queues = queues;
        _packets = packets;
        _address = new LibC.sockaddr_ll_t { sll_family = LibC.AF_PACKET, sll_ifindex = index };
    }

    /// <summary>The queues' descriptors, owned by this object.</summary>
    public IReadOnlyList<SafeFileHandle> Queues => _queues;

    /// <summary>The socket by which it is woken, owned by this object.</summary>
    public SafeFileHandle Packets => _packets;

    /// <summary>The device's number in its network namespace.</summary>
    public int Index => _address.sll_ifindex;

    /// <summary>One that another process has made and sent the descriptors of, which it owns.</summary>
    /// <exception cref="SyscallException">TUNGETIFF: not queues of a tap device; PACKET_VNET_HDR: not such a socket; they are still the caller's.</exception>
    public static IsolatedTap FromDescriptors(IReadOnlyList<SafeFileHandle> queues, SafeFileHandle packets, int index)
    {
        foreach (var queue in queues)
            _ = TapDevice.FlagsOf(queue);
        var size = sizeof(int);
        if (LibC.getsockopt(packets, LibC.SOL_PACKET, LibC.PACKET_VNET_HDR, out int header, ref size) != 0)
            throw SyscallException.FromLastError("getsockopt", "PACKET_VNET_HDR");
        if (header == 0)
            throw new SyscallException("getsockopt", "PACKET_VNET_HDR is not set", Errno.EINVAL);
        return new IsolatedTap([.. queues], packets, index);
    }

    /// <summary>Makes one.</summary>
    /// <param name="queues">How many queues.</param>
    /// <param name="flags">Their kind.</param>
    /// <exception cref="SyscallException">unshare: EPERM (CAP_SYS_ADMIN); open, TUNSETIFF and others as for a tap device.</exception>
    public static IsolatedTap Create(int queues, TapFlags flags)
    {
        // A thread of its own: its namespace is not to be had by anybody else, and ends with it but for the descriptors.
        return OnThread(() => CreateHere(queues, flags));
    }

    /// <summary>Makes every queue of somebody's isolated tap readable once, of which we have nothing but a queue.</summary>
    /// <exception cref="SyscallException">TUNGETDEVNETNS, setns, socket: EPERM (CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_NET_RAW).</exception>
    public static void Wake(SafeFileHandle queue, int queues)
    {
        using var space = LibC.Adopt(LibC.ioctl(queue, LibC.TUNGETDEVNETNS, 0), "TUNGETDEVNETNS", null);
        using var tap = OnThread(() =>
        {
            if (LibC.setns(space, LibC.CLONE_NEWNET) != 0)
                throw SyscallException.FromLastError("setns", null);
            var (packets, index) = OpenPackets(TapDevice.NameOf(queue));
            return new IsolatedTap([], packets, index);
        });
        tap.Wake(queues);
    }

    /// <summary>Takes the next frame that its user has sent.</summary>
    /// <param name="frame">Where it goes, of <see cref="LongestFrame"/> bytes: header and frame, as a tap device takes them.</param>
    /// <param name="headerBytes">The length of that device's header.</param>
    /// <returns>Bytes; <see cref="NonBlocking.WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">recvmsg: ENETDOWN and others.</exception>
    public int Receive(Span<byte> frame, int headerBytes) => TapFrames.Receive(_packets, frame, headerBytes);

    /// <summary>How many frames its user has sent that found no room to wait in, since this was last asked.</summary>
    /// <exception cref="SyscallException">getsockopt: EBADF and others.</exception>
    public long TakeDropped()
    {
        var size = 2 * sizeof(uint);
        return LibC.getsockopt(_packets, LibC.SOL_PACKET, LibC.PACKET_STATISTICS, out LibC.tpacket_stats_t statistics, ref size) == 0
            ? statistics.tp_drops
            : throw SyscallException.FromLastError("getsockopt", "PACKET_STATISTICS");
    }

    /// <summary>Room for any frame.</summary>
    public static int LongestFrame => TapFrames.LongestFrame;

    /// <summary>What its user has set on it.</summary>
    /// <exception cref="SyscallException">ioctl: as for a tap device.</exception>
    public TapSettings Settings() => TapSettings.Read(_queues, _packets, DeviceName);

    /// <summary>Makes every queue readable once.</summary>
    public void Wake() => Wake(_queues.Count);

    private void Wake(int queues)
    {
        // An empty virtio-net header, and an IPv4 packet of UDP, whose ports make the flow.
        const int header = 10;
        Span<byte> message = stackalloc byte[header + 60];
        message.Clear();
        var frame = message[header..];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[17] = 46;
        frame[23] = 17;
        for (var flow = 0; flow < queues * FlowsPerQueue; flow++)
        {
            (frame[34], frame[35]) = ((byte)(flow >> 8), (byte)flow);
            _ = LibC.sendto(_packets, message, (nuint)message.Length, LibC.MSG_DONTWAIT, _address, 20);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _queues.ForEach(q => q.Dispose());
        _packets.Dispose();
    }

    private static IsolatedTap CreateHere(int count, TapFlags flags)
    {
        if (LibC.unshare(LibC.CLONE_NEWNET) != 0)
            throw SyscallException.FromLastError("unshare", "CLONE_NEWNET", "CAP_SYS_ADMIN is needed");
        const string ipv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        if (File.Exists(ipv6))
            File.WriteAllText(ipv6, "1"); // it would announce itself

        var queues = new List<SafeFileHandle>();
        SafeFileHandle? packets = null;
        try
        {
            var first = TapDevice.Open(DeviceName, flags);
            queues.Add(first.Queue);
            while (queues.Count < count)
                queues.Add(TapDevice.Open(first.Name, flags).Queue);

            using (var any = LibC.Adopt(LibC.OpenSocket(LibC.AF_PACKET, LibC.SOCK_RAW | LibC.SOCK_CLOEXEC, 0), "socket", "AF_PACKET"))
            {
                var request = new LibC.ifreq_t { Name = first.Name };
                TapDevice.Control(any, LibC.SIOCGIFFLAGS, ref request, "SIOCGIFFLAGS", first.Name);
                request.ifr_flags |= LibC.IFF_UP;
                TapDevice.Control(any, LibC.SIOCSIFFLAGS, ref request, "SIOCSIFFLAGS", first.Name);
            }

            (packets, var index) = OpenPackets(first.Name);
            return new IsolatedTap(queues, packets, index);
        }
        catch
        {
            queues.ForEach(q => q.Dispose());
            packets?.Dispose();
            throw;
        }
    }

    /// <summary>In the device's namespace.</summary>
    private static (SafeFileHandle Packets, int Index) OpenPackets(string device)
    {
        var packets = LibC.Adopt(LibC.OpenSocket(LibC.AF_PACKET, LibC.SOCK_RAW | LibC.SOCK_CLOEXEC, 0), "socket", "AF_PACKET");
        try
        {
            var request = new LibC.ifreq_t { Name = device };
            TapDevice.Control(packets, LibC.SIOCGIFINDEX, ref request, "SIOCGIFINDEX", device);
            Set(LibC.SOL_PACKET, LibC.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
            Set(LibC.SOL_PACKET, LibC.PACKET_AUXDATA, 1, "PACKET_AUXDATA");
            Set(LibC.SOL_PACKET, LibC.PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
            Set(LibC.SOL_SOCKET, LibC.SO_RCVBUFFORCE, ReceiveBuffer, "SO_RCVBUFFORCE");
            var address = new LibC.sockaddr_ll_t { sll_family = LibC.AF_PACKET, sll_protocol = LibC.ETH_P_ALL, sll_ifindex = request.Index };
            if (LibC.bind(packets, address, 20) != 0)
                throw SyscallException.FromLastError("bind", device);
            return (packets, request.Index);
        }
        catch
        {
            packets.Dispose();
            throw;
        }

        void Set(int level, int option, int value, string name)
        {
            if (LibC.setsockopt(packets, level, option, value, sizeof(int)) != 0)
                throw SyscallException.FromLastError("setsockopt", name);
        }
    }

    /// <summary>Whatever namespace the thread goes to, it goes with it.</summary>
    private static IsolatedTap OnThread(Func<IsolatedTap> work)
    {
        IsolatedTap? made = null;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                made = work();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        return made ?? throw new IOException(failure!.Message, failure);
    }
}
