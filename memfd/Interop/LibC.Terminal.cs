using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>Pseudoterminals (pty(7)) and termios(3).</summary>
internal static partial class LibC
{
    internal const int TCSANOW = 0;

    /// <summary>Room for any struct termios of glibc (60 bytes on x86-64 and arm64).</summary>
    internal const int TermiosBytes = 128;

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int grantpt(SafeHandle master);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int unlockpt(SafeHandle master);

    /// <returns>0, or the error number.</returns>
    [LibraryImport("libc")]
    internal static partial int ptsname_r(SafeHandle master, Span<byte> name, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int tcgetattr(SafeHandle terminal, Span<byte> attributes);

    [LibraryImport("libc")]
    internal static partial void cfmakeraw(Span<byte> attributes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int tcsetattr(SafeHandle terminal, int actions, ReadOnlySpan<byte> attributes);
}
