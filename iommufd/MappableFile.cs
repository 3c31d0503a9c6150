using System.Runtime.InteropServices;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>A file whose memory devices may be given: memfd, tmpfs or hugetlbfs file, or a dma-buf.</summary>
/// <param name="Handle">A descriptor of it; stays the caller's.</param>
/// <param name="Identity">Which file it is.</param>
/// <param name="IsDmaBuf">A dma-buf rather than memory.</param>
/// <param name="Size">Bytes.</param>
public sealed record MappableFile(SafeHandle Handle, FileIdentity Identity, bool IsDmaBuf, ulong Size)
{
    /// <summary>Inspects a file, and refuses one that a device must not be given, because the kernel does not, or only later.</summary>
    /// <param name="fd">The file; stays the caller's.</param>
    /// <param name="access">What devices shall do with it.</param>
    /// <exception cref="FileRefusedException">It cannot be mapped, or must not be; the message says why.</exception>
    public static MappableFile Inspect(SafeHandle fd, MapAccess access = MapAccess.ReadWrite)
    {
        ArgumentNullException.ThrowIfNull(fd);
        var info = DescriptorInfo.Of(fd);
        var facts = new FileFacts(info.Kind, info.Path, (ulong)info.Size, info.Access, SealsOf(fd, info.Kind));
        if (FileRules.Check(facts, access) is { } refusal)
            throw new FileRefusedException(info.Path, refusal);
        return new MappableFile(fd, FileIdentity.Of(info), info.Kind == DescriptorKind.DmaBuf, (ulong)info.Size);
    }

    /// <summary>Takes a file as it is, for callers that leave the judgement to the kernel.</summary>
    /// <param name="fd">The file; stays the caller's.</param>
    public static MappableFile Unchecked(SafeHandle fd)
    {
        ArgumentNullException.ThrowIfNull(fd);
        var info = DescriptorInfo.Of(fd);
        return new MappableFile(fd, FileIdentity.Of(info), info.Kind == DescriptorKind.DmaBuf, (ulong)info.Size);
    }

    /// <summary>What an area of it shows.</summary>
    /// <param name="offset">Bytes into it.</param>
    public Backing BackingAt(ulong offset) => IsDmaBuf ? new DmaBufBacking(Identity, offset) : new FileBacking(Identity, offset);

    /// <inheritdoc/>
    public override string ToString() => IsDmaBuf ? $"dma-buf {Identity.Inode}" : Identity.ToString();

    internal static Seals? SealsOf(SafeHandle fd, DescriptorKind kind) =>
        kind is DescriptorKind.Memfd ? Memfd.Memfd.GetSeals(fd) : null;
}
