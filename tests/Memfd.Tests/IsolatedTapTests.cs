using System.Buffers.Binary;
using Xunit;

namespace CprSharp.Memfd.Tests;

/// <summary>What is sent into a tap device of no network comes out of it as it was, for another tap device.</summary>
public sealed class IsolatedTapTests
{
    private const int Header = 12;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void FramesComeOutAsTheyWentIn(bool tagged)
    {
        using var tap = IsolatedTap.Create(1, new TapFlags(VnetHeader: true, MultiQueue: false));
        TapSettings.SetHeaderBytes(tap.Queues[0], Header);
        Assert.Equal(Header, TapSettings.HeaderBytesOf(tap.Queues[0]));
        var frame = Frame(tagged, payload: 1000);
        for (var i = 0; i < 100; i++)
        {
            frame[^1] = (byte)i;
            Assert.Equal(frame.Length, NonBlocking.Write(tap.Queues[0], frame));
        }

        var room = new byte[IsolatedTap.LongestFrame];
        for (var i = 0; i < 100; i++)
        {
            frame[^1] = (byte)i;
            Assert.Equal(frame, room[..tap.Receive(room, Header)]);
        }

        Assert.Equal(NonBlocking.WouldBlock, tap.Receive(room, Header));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WhatIsLeftForTheNetworkToDoIsStillLeftToIt(bool tagged)
    {
        using var tap = IsolatedTap.Create(1, new TapFlags(VnetHeader: true, MultiQueue: false));
        TapSettings.SetHeaderBytes(tap.Queues[0], Header);
        var frame = Frame(tagged, payload: 40_000);
        var network = Header + (tagged ? 18 : 14);
        frame[0] = 1; // a checksum is needed
        frame[1] = 1; // TCP over IPv4, to be cut
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(2), (ushort)(network - Header + 40));
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(4), 1448);
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(6), (ushort)(network - Header + 20));
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(8), 16);
        Assert.Equal(frame.Length, NonBlocking.Write(tap.Queues[0], frame));
        var room = new byte[IsolatedTap.LongestFrame];
        Assert.Equal(frame, room[..tap.Receive(room, Header)]);
    }

    [Fact]
    public void WhatFoundNoRoomIsCounted()
    {
        using var tap = IsolatedTap.Create(1, new TapFlags(VnetHeader: true, MultiQueue: false));
        TapSettings.SetHeaderBytes(tap.Queues[0], Header);
        var frame = Frame(tagged: false, payload: 1000);
        const int sent = 100_000; // of more bytes than wait at most
        for (var i = 0; i < sent; i++)
            Assert.Equal(frame.Length, NonBlocking.Write(tap.Queues[0], frame));
        var dropped = tap.TakeDropped();
        Assert.Equal(0, tap.TakeDropped());
        var taken = 0;
        for (var room = new byte[IsolatedTap.LongestFrame]; tap.Receive(room, Header) > 0;)
            taken++;
        Assert.InRange(dropped, 1, sent);
        Assert.Equal(sent, taken + dropped);
    }

    [Fact]
    public void ADeviceWithoutHeadersGivesAndTakesNone()
    {
        using var tap = IsolatedTap.Create(1, default);
        Assert.Equal(0, TapSettings.HeaderBytesOf(tap.Queues[0]));
        var frame = Frame(tagged: false, payload: 60)[Header..];
        Assert.Equal(frame.Length, NonBlocking.Write(tap.Queues[0], frame));
        var room = new byte[IsolatedTap.LongestFrame];
        Assert.Equal(frame, room[..tap.Receive(room, 0)]);
    }

    [Theory]
    [InlineData(0x00u)]
    [InlineData(0x01u)]
    [InlineData(0x0fu)]
    [InlineData(0x07u)]
    public void SettingsGoFromOneDeviceToAnother(uint offloads)
    {
        using var from = IsolatedTap.Create(3, new TapFlags(VnetHeader: true, MultiQueue: true));
        using var to = IsolatedTap.Create(3, new TapFlags(VnetHeader: true, MultiQueue: true));
        var wanted = new TapSettings(Header, offloads, [true, false, true]);
        wanted.Apply(from.Queues);
        var read = from.Settings();
        Assert.Equal((wanted.HeaderBytes, wanted.Offloads), (read.HeaderBytes, read.Offloads));
        Assert.Equal(wanted.Attached, read.Attached);
        read.Apply(to.Queues);
        Assert.Equal(read.Offloads, to.Settings().Offloads);
        Assert.Equal([true, false, true], to.Settings().Attached);
        new TapSettings(10, 0, [true, true, true]).Apply(to.Queues);
        Assert.Equal((10, 0u), (to.Settings().HeaderBytes, to.Settings().Offloads));
        Assert.Equal([true, true, true], to.Settings().Attached);
    }

    [Fact]
    public void EveryQueueIsWokenAlsoByAStranger()
    {
        using var tap = IsolatedTap.Create(2, new TapFlags(VnetHeader: true, MultiQueue: true));
        var room = new byte[IsolatedTap.LongestFrame];
        tap.Wake();
        ExpectAwake();
        IsolatedTap.Wake(tap.Queues[1], 2);
        ExpectAwake();

        void ExpectAwake()
        {
            foreach (var queue in tap.Queues)
            {
                Assert.True(NonBlocking.Read(queue, room) > 0);
                while (NonBlocking.Read(queue, room) > 0)
                {
                }
            }
        }
    }

    /// <summary>Header, addresses, and TCP over IPv4.</summary>
    private static byte[] Frame(bool tagged, int payload)
    {
        byte[] tag = tagged ? [0x81, 0x00, 0x20, 0x07] : [];
        byte[] head =
        [
            .. new byte[Header], 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, .. tag, 8, 0,
            0x45, 0, (byte)((payload + 40) >> 8), (byte)(payload + 40), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            0, 80, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
        ];
        return [.. head, .. Enumerable.Range(0, payload).Select(i => (byte)i)];
    }
}
