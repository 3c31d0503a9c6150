using CprSharp.Memfd;

namespace CprSharp.Iommufd;

/// <summary>Why memory must not or cannot be mapped by file.</summary>
public enum FileRefusal
{
    /// <summary>No file at all: anonymous memory.</summary>
    Anonymous,

    /// <summary>Mapped copy-on-write: what the process sees is not what is in the file.</summary>
    PrivateMapping,

    /// <summary>A regular file on a disk file system, or a device.</summary>
    NotSharedMemory,

    /// <summary>memfd_secret(2).</summary>
    SecretMemory,

    /// <summary>KVM's guest_memfd.</summary>
    GuestMemory,

    /// <summary>Devices would write although the memory is sealed against it.</summary>
    WriteSealed,

    /// <summary>Devices would write although the descriptor may only be read.</summary>
    ReadOnlyDescriptor,

    /// <summary>The area reaches beyond the end of the file.</summary>
    BeyondEnd,

    /// <summary>A hole in the process's address space.</summary>
    NotMapped,

    /// <summary>No descriptor of the file is at hand.</summary>
    NoDescriptor,

    /// <summary>The addresses are another process's than the one looked at.</summary>
    OtherProcess,

    /// <summary>It is not known what is mapped there.</summary>
    Unknown,
}

/// <summary>What matters about a file.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Path">What the kernel calls it.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Access">What its descriptor may do.</param>
/// <param name="Seals">Its seals; null where it can have none.</param>
public sealed record FileFacts(DescriptorKind Kind, string Path, ulong Size, DescriptorAccess Access, Seals? Seals);

/// <summary>The checks that the kernel leaves out of IOMMU_IOAS_MAP_FILE, or makes only when it pins. Pure.</summary>
public static class FileRules
{
    /// <summary>Whether devices may be given the file.</summary>
    /// <returns>Null, or why not.</returns>
    public static FileRefusal? Check(FileFacts file, MapAccess access)
    {
        ArgumentNullException.ThrowIfNull(file);
        var writes = access.HasFlag(MapAccess.Write);
        return file.Kind switch
        {
            DescriptorKind.SecretMemfd => FileRefusal.SecretMemory,
            DescriptorKind.GuestMemfd => FileRefusal.GuestMemory,
            DescriptorKind.DmaBuf => null,
            DescriptorKind.Memfd or DescriptorKind.ShmemFile or DescriptorKind.HugetlbFile => file switch
            {
                _ when writes && file.Seals is { } seals && (seals & (Seals.Write | Seals.FutureWrite)) != Seals.None => FileRefusal.WriteSealed,
                _ when writes && file.Access != DescriptorAccess.ReadWrite => FileRefusal.ReadOnlyDescriptor,
                _ when !writes && file.Access is DescriptorAccess.Write or DescriptorAccess.None => FileRefusal.ReadOnlyDescriptor,
                _ => null,
            },
            _ => FileRefusal.NotSharedMemory,
        };
    }

    /// <summary>Whether devices may be given part of the file.</summary>
    /// <returns>Null, or why not.</returns>
    public static FileRefusal? Check(FileFacts file, MapAccess access, ulong offset, ulong length) =>
        Check(file, access) is { } refusal ? refusal
        : offset > file.Size || length > file.Size - offset ? FileRefusal.BeyondEnd
        : null;

    /// <summary>What a refusal means, for people.</summary>
    public static string Explain(FileRefusal refusal) => refusal switch
    {
        FileRefusal.Anonymous => "anonymous memory has no file; give the guest its memory by memory-backend-file or memory-backend-memfd with share=on",
        FileRefusal.PrivateMapping => "the mapping is private: the guest's writes are not in the file; use share=on",
        FileRefusal.NotSharedMemory => "not a memfd, tmpfs or hugetlbfs file; the kernel cannot pin others by file",
        FileRefusal.SecretMemory => "memfd_secret can never be given to a device",
        FileRefusal.GuestMemory => "guest_memfd is bound to its virtual machine and cannot be mapped for devices",
        FileRefusal.WriteSealed => "the memory is sealed against writing, which devices would disregard",
        FileRefusal.ReadOnlyDescriptor => "the descriptor is not open for what devices shall do, which the kernel would disregard",
        FileRefusal.BeyondEnd => "the area reaches beyond the end of the file",
        FileRefusal.NotMapped => "nothing is mapped there in the process",
        FileRefusal.NoDescriptor => "no descriptor of the file is at hand",
        FileRefusal.OtherProcess => "the addresses are another process's than the one looked at",
        _ => "it is not known what is mapped there",
    };
}

/// <summary>A file must not or cannot be mapped for devices.</summary>
/// <param name="path">What the kernel calls it.</param>
/// <param name="refusal">Why.</param>
public sealed class FileRefusedException(string path, FileRefusal refusal) : IOException($"{path}: {FileRules.Explain(refusal)}")
{
    /// <summary>Why.</summary>
    public FileRefusal Refusal { get; } = refusal;
}
