using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>What a mapping may be used for (<c>PROT_*</c>, mman.h).</summary>
[Flags]
public enum MappingProtection
{
    /// <summary>Address space only.</summary>
    None = 0,

    /// <summary>Reading.</summary>
    Read = 1,

    /// <summary>Writing.</summary>
    Write = 2,

    /// <summary>Executing.</summary>
    Execute = 4,
}

/// <summary>A shared mapping of a file (mmap(2), MAP_SHARED); unmapped on Dispose. Independent of the descriptor that it was made from.</summary>
public sealed class MemoryMapping : SafeHandle
{
    private const nint MapFailed = -1;
    private readonly MappingProtection _protection;

    private MemoryMapping(nint address, nuint length, MappingProtection protection)
        : base(MapFailed, ownsHandle: true)
    {
        SetHandle(address);
        Length = length;
        _protection = protection;
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle is MapFailed;

    /// <summary>Bytes mapped.</summary>
    public nuint Length { get; }

    /// <summary>Maps part of a file.</summary>
    /// <param name="fd">A memfd or another file; it may be closed afterwards.</param>
    /// <param name="offset">Bytes into the file, a multiple of the (huge) page.</param>
    /// <param name="length">Bytes, more than 0. Touching pages beyond the end of the file kills the process with SIGBUS.</param>
    /// <param name="p">What the mapping is for.</param>
    /// <exception cref="SyscallException">mmap: EACCES (descriptor not open for this), EINVAL (alignment), EPERM (write-sealed), ENOMEM.</exception>
    public static MemoryMapping Map(SafeHandle fd, long offset, nuint length, MappingProtection p)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        var address = LibC.mmap(0, length, (int)p, LibC.MAP_SHARED, fd, offset);
        return address == MapFailed
            ? throw SyscallException.FromLastError("mmap", $"{length} bytes at offset {offset}, {p}")
            : new MemoryMapping(address, length, p);
    }

    /// <summary>The whole mapping. Must not be used once the mapping is disposed.</summary>
    /// <exception cref="InvalidOperationException">The mapping is longer than a span can be (2 GiB - 1).</exception>
    public Span<byte> AsSpan() => Length <= int.MaxValue
        ? AsSpan(0, (int)Length)
        : throw new InvalidOperationException($"A span cannot cover {Length} bytes; take a part with AsSpan(offset, length).");

    /// <summary>A part of the mapping. Must not be used once the mapping is disposed.</summary>
    /// <param name="offset">Bytes into the mapping.</param>
    /// <param name="length">Bytes.</param>
    public unsafe Span<byte> AsSpan(nuint offset, int length)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length);
        if ((nuint)length > Length - offset)
            throw new ArgumentOutOfRangeException(nameof(length), length, $"Only {Length - offset} bytes are mapped from offset {offset} on.");
        return new Span<byte>((byte*)handle + offset, length);
    }

    /// <summary>Faults every page in now (MADV_POPULATE_*, Linux 5.14), allocating holes where the mapping is writable.</summary>
    /// <exception cref="SyscallException">madvise: ENOMEM, EFAULT (beyond the end of the file), EINVAL (older kernel).</exception>
    public void Populate()
    {
        var advice = _protection.HasFlag(MappingProtection.Write) ? LibC.MADV_POPULATE_WRITE : LibC.MADV_POPULATE_READ;
        while (LibC.madvise(this, Length, advice) != 0)
        {
            if (Marshal.GetLastPInvokeError() is not (Errno.EINTR or Errno.EAGAIN))
                throw SyscallException.FromLastError("madvise", $"MADV_POPULATE, {Length} bytes");
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => LibC.munmap(handle, Length) == 0;
}
