using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

internal static unsafe partial class LibC
{
    /// <summary>Returns the error number; <paramref name="result"/> is null when there is no such group.</summary>
    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int getgrnam_r(string name, out group_t group, byte* buffer, nuint length, out nint result);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int chown(string path, uint owner, uint group);

    [LibraryImport("libc")]
    internal static partial uint geteuid();

    /// <summary>struct group of LP64.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct group_t
    {
        internal nint Name;
        internal nint Password;
        internal uint Id;
        internal nint Members;
    }
}
