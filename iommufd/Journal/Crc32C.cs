using System.Buffers.Binary;
using System.Numerics;

namespace CprSharp.Iommufd.Journal;

/// <summary>CRC-32C (Castagnoli), for which processors have an instruction.</summary>
internal static class Crc32C
{
    internal static uint Compute(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        for (; bytes.Length >= sizeof(ulong); bytes = bytes[sizeof(ulong)..])
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        foreach (var one in bytes)
            crc = BitOperations.Crc32C(crc, one);
        return ~crc;
    }
}
