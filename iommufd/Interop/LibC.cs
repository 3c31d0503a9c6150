using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary>libc and the kernel's structures as they are: native names, one file per header.</summary>
internal static partial class LibC
{
    [LibraryImport("libc", SetLastError = true)]
    public static unsafe partial int ioctl(SafeHandle fd, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint pread(SafeHandle fd, Span<byte> buffer, nuint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint pwrite(SafeHandle fd, ReadOnlySpan<byte> buffer, nuint count, long offset);
}
