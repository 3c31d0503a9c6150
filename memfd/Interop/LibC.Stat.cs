using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static partial class LibC
{
    internal const int AT_FDCWD = -100;
    internal const int AT_EMPTY_PATH = 0x1000;
    internal const uint STATX_BASIC_STATS = 0x7ff;
    internal const long TMPFS_MAGIC = 0x01021994;
    internal const long HUGETLBFS_MAGIC = 0x958458f6;
    internal const long SECRETMEM_MAGIC = 0x5345434d;
    internal const long GUEST_MEMFD_MAGIC = 0x474d454d;

    internal static statx_t Stat(SafeHandle descriptor) =>
        statx(descriptor, "", AT_EMPTY_PATH, STATX_BASIC_STATS, out var result) == 0
            ? result
            : throw SyscallException.FromLastError("statx", "descriptor");

    internal static statx_t Stat(string path) =>
        statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, out var result) == 0
            ? result
            : throw SyscallException.FromLastError("statx", path);

    /// <summary>The file system's magic number (linux/magic.h).</summary>
    internal static long FileSystemType(string path) =>
        statfs(path, out var result) == 0 ? result.Type : throw SyscallException.FromLastError("statfs", path);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(SafeHandle directory, string path, int flags, uint mask, out statx_t result);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(int directory, string path, int flags, uint mask, out statx_t result);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statfs(string path, out statfs_t result);

    /// <summary>struct statx (linux/stat.h): one layout on every architecture, unlike struct stat.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    internal struct statx_t
    {
        [FieldOffset(4)] internal uint BlockSize;
        [FieldOffset(20)] internal uint UserId;
        [FieldOffset(24)] internal uint GroupId;
        [FieldOffset(28)] internal ushort Mode;
        [FieldOffset(32)] internal ulong Inode;
        [FieldOffset(40)] internal ulong Size;
        [FieldOffset(128)] internal uint RdevMajor;
        [FieldOffset(132)] internal uint RdevMinor;
        [FieldOffset(136)] internal uint DevMajor;
        [FieldOffset(140)] internal uint DevMinor;
    }

    /// <summary>struct statfs: only its first word, the type, is used.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct statfs_t
    {
        [FieldOffset(0)] internal long Type;
    }
}
