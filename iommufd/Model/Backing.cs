using System.Globalization;

namespace CprSharp.Iommufd.Model;

/// <summary>What memory an area shows to devices.</summary>
public abstract record Backing
{
    /// <summary>The same memory, so many bytes further in.</summary>
    /// <param name="bytes">Bytes.</param>
    public abstract Backing At(ulong bytes);
}

/// <summary>Part of a memory file: memfd, tmpfs or hugetlbfs. Survives the process that mapped it.</summary>
/// <param name="File">The file.</param>
/// <param name="Offset">Bytes into it.</param>
public sealed record FileBacking(FileIdentity File, ulong Offset) : Backing
{
    /// <inheritdoc/>
    public override Backing At(ulong bytes) => this with { Offset = Offset + bytes };

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{File} at 0x{Offset:x}");
}

/// <summary>Part of a dma-buf: a BAR. Blocks IOMMU_IOAS_CHANGE_PROCESS.</summary>
/// <param name="Buffer">The dma-buf.</param>
/// <param name="Offset">Bytes into it.</param>
public sealed record DmaBufBacking(FileIdentity Buffer, ulong Offset) : Backing
{
    /// <inheritdoc/>
    public override Backing At(ulong bytes) => this with { Offset = Offset + bytes };

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"dma-buf {Buffer.Inode} at 0x{Offset:x}");
}

/// <summary>Virtual addresses of a process. Blocks IOMMU_IOAS_CHANGE_PROCESS, and cannot be pinned anew when the process is gone.</summary>
/// <param name="Pid">The process.</param>
/// <param name="Address">The first address.</param>
public sealed record VirtualBacking(int Pid, ulong Address) : Backing
{
    /// <inheritdoc/>
    public override Backing At(ulong bytes) => this with { Address = Address + bytes };

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"process {Pid} at 0x{Address:x}");
}

/// <summary>Mapped, but nobody knows what.</summary>
public sealed record UnknownBacking : Backing
{
    /// <inheritdoc/>
    public override Backing At(ulong bytes) => this;

    /// <inheritdoc/>
    public override string ToString() => "unknown memory";
}
