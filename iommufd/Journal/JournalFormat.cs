namespace CprSharp.Iommufd.Journal;

/// <summary>
/// The layout of a journal. Everything is little-endian and without padding.
/// <code>
/// file    magic "CPRIOMMU" (8), major u16, minor u16, header length u32 (16 so far), records…
/// record  length u32 (of the whole record), kind u16, must be 0 u16, sequence u64, body…, CRC-32C u32 (of all before it)
/// </code>
/// A minor version may add fields at the end of a body, and kinds from 0x8000 on that a reader may skip; a reader takes a missing
/// field of an older journal as zero, and passes over what it does not know. Anything else is a new major version.
/// </summary>
public static class JournalFormat
{
    /// <summary>The newest major version that this library reads, and the one it writes.</summary>
    public const ushort Major = 1;

    /// <summary>The minor version that this library writes.</summary>
    public const ushort Minor = 0;

    internal const int HeaderBytes = 16;
    internal const int RecordHeaderBytes = 16;
    internal const int ChecksumBytes = 4;
    internal const int MaxRecordBytes = 1 << 20;
    internal const ushort FirstSkippableKind = 0x8000;

    internal static ReadOnlySpan<byte> Magic => "CPRIOMMU"u8;
}

/// <summary>The kinds of record. The numbers are on disk: never change one.</summary>
internal enum RecordKind : ushort
{
    Done = 1,
    Failed = 2,
    AllocateIoas = 0x10,
    Destroy = 0x11,
    AllowIovas = 0x12,
    MapFile = 0x13,
    MapDmaBuf = 0x14,
    MapVirtual = 0x15,
    Copy = 0x16,
    Unmap = 0x17,
    SetOption = 0x18,
    SetCompatIoas = 0x19,
    AllocateHwpt = 0x20,
    SetDirtyTracking = 0x21,
    AllocateFaultQueue = 0x22,
    AllocateVirtualIommu = 0x23,
    AllocateVirtualDevice = 0x24,
    AllocateVirtualEventQueue = 0x25,
    AllocateHardwareQueue = 0x26,
    BindDevice = 0x30,
    AttachDevice = 0x31,
    DetachDevice = 0x32,
    ChangeProcess = 0x40,
}
