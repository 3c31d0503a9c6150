using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static partial class LibC
{
    internal const int AF_UNIX = 1;
    internal const int SOCK_CLOEXEC = 0x80000;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socketpair(int domain, int type, int protocol, Span<int> pair);
}
