using System.Buffers.Binary;
using CprSharp.Iommufd.Handover;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using CprSharp.Tests;
using Xunit;

namespace CprSharp.Iommufd.Tests.Journal;

/// <summary>Journals and hand-over boxes made from good ones, with checksums that are right: what is in them is looked at, too.</summary>
public sealed class FuzzTests
{
    [Fact]
    public void A_hand_over_box_is_read_or_refused()
    {
        byte[][] corpus =
        [
            new Manifest(0, 0, [], []).Encode(),
            new Manifest(4711, 99, [new HandoverEntry("ram", default, DescriptorKind.Memfd, new FileIdentity(new DeviceNumber(1, 2), 3)), new HandoverEntry("ü", default, DescriptorKind.Iommufd, default)], [7, 8]).Encode(),
        ];
        Fuzz.Run(20_000, random =>
        {
            var bytes = Fuzz.Mutate(random, corpus);
            if (bytes.Length >= 12 && random.Next(4) > 0)
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(^4), Crc32C.Compute(bytes.AsSpan(..^4)));
            try
            {
                _ = Manifest.Decode(bytes).Entries.Length;
            }
            catch (InvalidDataException)
            {
                // Which is the answer.
            }
        });
    }

    [Fact]
    public void A_journal_is_read_or_refused()
    {
        byte[] header = [.. JournalFormat.Magic, .. BitConverter.GetBytes(JournalFormat.Major), 0, 0, .. BitConverter.GetBytes((uint)JournalFormat.HeaderBytes)];
        Fuzz.Run(20_000, random =>
        {
            var bytes = new List<byte>(header);
            for (var records = random.Next(6); records > 0; records--)
            {
                // Length, kind, reserved, sequence, body of any content, checksum.
                var body = new byte[random.Next(64)];
                random.NextBytes(body);
                if (random.Next(2) == 0)
                    Array.Clear(body, 0, Math.Min(body.Length, random.Next(64)));
                byte[] record =
                [
                    .. BitConverter.GetBytes((uint)(JournalFormat.RecordHeaderBytes + body.Length + JournalFormat.ChecksumBytes)), .. BitConverter.GetBytes((ushort)random.Next(24)), 0, 0,
                    .. BitConverter.GetBytes((ulong)random.Next(1, 5)), .. body,
                ];
                bytes.AddRange(record);
                bytes.AddRange(BitConverter.GetBytes(Crc32C.Compute(record)));
            }

            byte[] journal = random.Next(3) == 0 ? Fuzz.Mutate(random, [[.. bytes]]) : [.. bytes];
            try
            {
                _ = JournalReader.Parse(journal).Unsettled.Length;
            }
            catch (JournalException)
            {
                // Which is the answer.
            }
        });
    }
}
