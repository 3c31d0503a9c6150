using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>How <see cref="Memfd.Create"/> makes a memfd.</summary>
public sealed record MemfdOptions
{
    /// <summary>Bytes of a huge page (a power of two that the host offers, for example 2 MiB); null for ordinary pages.</summary>
    public long? HugePageSize { get; init; }

    /// <summary>Seals set after the size is. <see cref="Seals.Exec"/> is set in any case where the kernel has it.</summary>
    public Seals Seals { get; init; }
}

/// <summary>Memory without a name in any file system (memfd_create(2)), to be mapped by several processes.</summary>
public static class Memfd
{
    private const int MaxNameBytes = 249;

    /// <summary>Creates a close-on-exec, sealable, non-executable memfd of the given size.</summary>
    /// <param name="name">Seen in <c>/proc/PID/fd</c> as <c>/memfd:NAME</c>; up to 249 bytes in UTF-8.</param>
    /// <param name="size">Bytes, at least 0; a multiple of the huge page size where one is asked for.</param>
    /// <param name="options">Huge pages and seals.</param>
    /// <returns>The only descriptor; the caller owns it.</returns>
    /// <exception cref="SyscallException">
    /// memfd_create: EMFILE, ENFILE, ENOMEM, ENODEV (no huge pages of this size); ftruncate: EINVAL (not a multiple of the huge
    /// page), EFBIG.
    /// </exception>
    public static SafeFileHandle Create(string name, long size, MemfdOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentOutOfRangeException.ThrowIfNegative(size);
        if (Encoding.UTF8.GetByteCount(name) > MaxNameBytes || name.Contains('\0', StringComparison.Ordinal))
            throw new ArgumentException($"A memfd's name has at most {MaxNameBytes} bytes and no NUL.", nameof(name));
        options ??= new MemfdOptions();

        var descriptor = Open(name, LibC.MFD_CLOEXEC | LibC.MFD_ALLOW_SEALING | HugePageFlags(options.HugePageSize));
        try
        {
            while (LibC.ftruncate(descriptor, size) != 0)
            {
                if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                    throw SyscallException.FromLastError("ftruncate", $"memfd {name}, {size} bytes", SizeHint(options.HugePageSize));
            }

            if (options.Seals != Seals.None)
                AddSeals(descriptor, options.Seals);
            return descriptor;
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>Adds seals; those already set stay.</summary>
    /// <exception cref="SyscallException">fcntl: EPERM (sealed against seals), EBUSY (<see cref="Seals.Write"/> while mapped writable), EINVAL (not a memfd).</exception>
    public static void AddSeals(SafeHandle fd, Seals s)
    {
        if (LibC.fcntl(fd, LibC.F_ADD_SEALS, (int)s) < 0)
            throw SyscallException.FromLastError("fcntl", $"F_ADD_SEALS, {s}");
    }

    /// <summary>The seals that are set.</summary>
    /// <exception cref="SyscallException">fcntl: EINVAL when the descriptor is not a memfd or other file that has seals.</exception>
    public static Seals GetSeals(SafeHandle fd)
    {
        var seals = LibC.fcntl(fd, LibC.F_GET_SEALS, 0);
        return seals < 0 ? throw SyscallException.FromLastError("fcntl", "F_GET_SEALS") : (Seals)seals;
    }

    /// <summary>The size in bytes.</summary>
    /// <exception cref="SyscallException">statx failed.</exception>
    public static long GetSize(SafeHandle fd) => (long)LibC.Stat(fd).Size;

    private static SafeFileHandle Open(string name, uint flags)
    {
        // MFD_NOEXEC_SEAL came with Linux 6.3; before that the flag itself is EINVAL.
        var result = LibC.memfd_create(name, flags | LibC.MFD_NOEXEC_SEAL);
        if (result < 0 && Marshal.GetLastPInvokeError() == Errno.EINVAL)
            result = LibC.memfd_create(name, flags);
        return LibC.Adopt(result, "memfd_create", name);
    }

    private static uint HugePageFlags(long? hugePageSize) => hugePageSize switch
    {
        null => 0,
        { } size when size >= 4096 && BitOperations.IsPow2(size) =>
            LibC.MFD_HUGETLB | (uint)BitOperations.Log2((ulong)size) << LibC.MFD_HUGE_SHIFT,
        { } size => throw new ArgumentOutOfRangeException(nameof(hugePageSize), size, "A huge page is a power of two of bytes."),
    };

    private static string? SizeHint(long? hugePageSize) =>
        hugePageSize is { } huge ? $"the size must be a multiple of the huge page ({huge} bytes)" : null;
}
