using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static partial class LibC
{
    internal const short POLLIN = 1;
    internal const short POLLOUT = 4;
    internal const int EFD_CLOEXEC = 0x80000;
    internal const int EFD_NONBLOCK = 0x800;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int poll(Span<pollfd_t> descriptors, nuint count, int timeoutMilliseconds);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int eventfd(uint initial, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint write(SafeHandle fd, in ulong value, nuint count);

    [StructLayout(LayoutKind.Sequential)]
    internal struct pollfd_t
    {
        internal int fd;
        internal short events;
        internal short revents;
    }
}
