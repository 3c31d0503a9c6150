using System.Buffers.Binary;
using System.Runtime.InteropServices;
using CprSharp.Interop;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Frames off a packet socket in the form in which a tap device takes them.</summary>
internal static unsafe class TapFrames
{
    /// <summary>Room for the longest: a segmentation offload's frame, a tag, and any header.</summary>
    internal const int LongestFrame = 65536 + 64;

    private const int AddressBytes = 12;
    private const int TagBytes = 4;
    private const byte NeedsChecksum = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
    private const ushort Vlan = 0x8100;

    /// <summary>Takes the next frame.</summary>
    /// <param name="packets">A packet socket with PACKET_VNET_HDR and PACKET_AUXDATA.</param>
    /// <param name="frame">Of <see cref="LongestFrame"/> bytes.</param>
    /// <param name="headerBytes">The virtio-net header that the tap device wants: 0, or 10 and more.</param>
    /// <returns>Its length with the header; <see cref="NonBlocking.WouldBlock"/>.</returns>
    /// <exception cref="SyscallException">recvmsg: ENETDOWN and others.</exception>
    internal static int Receive(SafeHandle packets, Span<byte> frame, int headerBytes)
    {
        var header = default(LibC.virtio_net_hdr_t);
        var control = stackalloc byte[128];

        // What the kernel has taken out of a frame, its VLAN tag, is put back between the addresses and the type: room is left for it there.
        var room = headerBytes + TagBytes;
        fixed (byte* bytes = frame)
        {
            var vectors = stackalloc ScmRights.LibC.iovec_t[2];
            vectors[0] = new() { iov_base = &header, iov_len = (nuint)sizeof(LibC.virtio_net_hdr_t) };
            vectors[1] = new() { iov_base = bytes + room, iov_len = (nuint)(frame.Length - room) };
            var message = new ScmRights.LibC.msghdr_t { msg_iov = vectors, msg_iovlen = 2, msg_control = control, msg_controllen = 128 };
            var result = ScmRights.LibC.recvmsg(packets, &message, LibC.MSG_DONTWAIT);
            if (result < 0)
            {
                return Marshal.GetLastPInvokeError() is Errno.EAGAIN or Errno.EINTR
                    ? NonBlocking.WouldBlock
                    : throw SyscallException.FromLastError("recvmsg", "AF_PACKET");
            }

            var length = (int)result - sizeof(LibC.virtio_net_hdr_t);
            return Arrange(frame, length, headerBytes, ref header, Tag(new ReadOnlySpan<byte>(control, (int)message.msg_controllen)));
        }
    }

    /// <summary>Moves the frame to behind its header, with its tag in it.</summary>
    internal static int Arrange(Span<byte> frame, int length, int headerBytes, ref LibC.virtio_net_hdr_t header, (ushort Type, ushort Info)? tag)
    {
        var body = frame[(headerBytes + TagBytes)..];
        if (tag is { } vlan && length >= AddressBytes)
        {
            body[..AddressBytes].CopyTo(frame[headerBytes..]);
            BinaryPrimitives.WriteUInt16BigEndian(frame[(headerBytes + AddressBytes)..], vlan.Type);
            BinaryPrimitives.WriteUInt16BigEndian(frame[(headerBytes + AddressBytes + 2)..], vlan.Info);
            length += TagBytes;
            header.hdr_len += header.hdr_len > 0 ? (ushort)TagBytes : (ushort)0;
            if ((header.flags & NeedsChecksum) != 0)
                header.csum_start += TagBytes;
        }
        else
        {
            body[..length].CopyTo(frame[headerBytes..]);
        }

        if (headerBytes > 0)
        {
            frame[..headerBytes].Clear();
            MemoryMarshal.Write(frame, in header);
        }

        return headerBytes + length;
    }

    private static (ushort Type, ushort Info)? Tag(ReadOnlySpan<byte> control)
    {
        if (control.Length < sizeof(ScmRights.LibC.cmsghdr_t) + sizeof(LibC.tpacket_auxdata_t)
            || MemoryMarshal.Read<ScmRights.LibC.cmsghdr_t>(control) is not { cmsg_level: LibC.SOL_PACKET, cmsg_type: LibC.PACKET_AUXDATA })
            return null;
        var about = MemoryMarshal.Read<LibC.tpacket_auxdata_t>(control[sizeof(ScmRights.LibC.cmsghdr_t)..]);
        if ((about.tp_status & LibC.TP_STATUS_VLAN_VALID) == 0)
            return null;
        return (about.tp_vlan_tpid == 0 ? Vlan : about.tp_vlan_tpid, about.tp_vlan_tci);
    }
}
