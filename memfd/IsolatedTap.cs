using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>A tap device in a network namespace of its own, in which nothing ever happens; it goes with its descriptors.</summary>
public sealed class IsolatedTap : IDisposable
{
    /// <summary>The kernel chooses a queue by a frame's flow: so many flows miss none of a few queues.</summary>
    private const int FlowsPerQueue = 32;

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
    /// <exception cref="SyscallException">TUNGETIFF: not queues of a tap device; they are still the caller's.</exception>
    public static IsolatedTap FromDescriptors(IReadOnlyList<SafeFileHandle> queues, SafeFileHandle packets, int index)
    {
        foreach (var queue in queues)
            _ = TapDevice.FlagsOf(queue);
        return new IsolatedTap([.. queues], packets, index);
    }

    /// <summary>Makes one.</summary>
    /// <param name="queues">How many queues.</param>
    /// <param name="flags">Their kind.</param>
    /// <exception cref="SyscallException">unshare: EPERM (CAP_SYS_ADMIN); open, TUNSETIFF and others as for a tap device.</exception>
    public static IsolatedTap Create(int queues, TapFlags flags)
    {
        // A thread of its own: its namespace is not to be had by anybody else, and ends with it but for the descriptors.
        IsolatedTap? made = null;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                made = CreateHere(queues, flags);
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

    /// <summary>Makes every queue readable once.</summary>
    public void Wake()
    {
        // An IPv4 packet of UDP, whose ports make the flow.
        Span<byte> frame = stackalloc byte[60];
        frame.Clear();
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[17] = 46;
        frame[23] = 17;
        for (var flow = 0; flow < _queues.Count * FlowsPerQueue; flow++)
        {
            (frame[34], frame[35]) = ((byte)(flow >> 8), (byte)flow);
            _ = LibC.sendto(_packets, frame, (nuint)frame.Length, LibC.MSG_DONTWAIT, _address, 20);
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
            var first = TapDevice.Open("quiet", flags);
            queues.Add(first.Queue);
            while (queues.Count < count)
                queues.Add(TapDevice.Open(first.Name, flags).Queue);

            packets = LibC.Adopt(LibC.OpenSocket(LibC.AF_PACKET, LibC.SOCK_RAW | LibC.SOCK_CLOEXEC, 0), "socket", "AF_PACKET");
            var request = new LibC.ifreq_t { Name = first.Name };
            TapDevice.Control(packets, LibC.SIOCGIFFLAGS, ref request, "SIOCGIFFLAGS", first.Name);
            request.ifr_flags |= LibC.IFF_UP;
            TapDevice.Control(packets, LibC.SIOCSIFFLAGS, ref request, "SIOCSIFFLAGS", first.Name);
            request = new LibC.ifreq_t { Name = first.Name };
            TapDevice.Control(packets, LibC.SIOCGIFINDEX, ref request, "SIOCGIFINDEX", first.Name);
            return new IsolatedTap(queues, packets, request.Index);
        }
        catch
        {
            queues.ForEach(q => q.Dispose());
            packets?.Dispose();
            throw;
        }
    }
}
