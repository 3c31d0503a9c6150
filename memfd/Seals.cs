namespace CprSharp.Memfd;

/// <summary>What may no longer be done to a memfd (<c>F_SEAL_*</c>, linux/fcntl.h). A seal, once set, stays.</summary>
/// <remarks>
/// Guest RAM wants <see cref="Shrink"/> and <see cref="Grow"/>. It must never carry <see cref="Write"/> or
/// <see cref="FutureWrite"/>: with them the next VMM cannot map it writable (EPERM).
/// </remarks>
[Flags]
public enum Seals
{
    /// <summary>Nothing is sealed.</summary>
    None = 0,

    /// <summary>No further seals.</summary>
    Seal = 1,

    /// <summary>The size cannot become smaller.</summary>
    Shrink = 2,

    /// <summary>The size cannot become larger.</summary>
    Grow = 4,

    /// <summary>The content cannot change; refused with EBUSY while a writable shared mapping or a DMA pin exists.</summary>
    Write = 8,

    /// <summary>The content cannot change through descriptors and mappings made from now on.</summary>
    FutureWrite = 0x10,

    /// <summary>The execute bits cannot change (Linux 6.3).</summary>
    Exec = 0x20,
}
