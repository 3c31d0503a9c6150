using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd.Interop;

/// <summary>Reading /proc: files without a size, links that are no paths, entries that vanish, and errors that name the path.</summary>
internal static class ProcFile
{
    internal static string ReadText(string path) => Encoding.UTF8.GetString(ReadBytes(path));

    internal static byte[] ReadBytes(string path)
    {
        using SafeFileHandle file = LibC.Open(path, LibC.O_RDONLY);
        var buffer = new byte[4096];
        var filled = 0;
        while (true)
        {
            if (filled == buffer.Length)
                Array.Resize(ref buffer, buffer.Length * 2);
            var count = LibC.read(file, buffer.AsSpan(filled), (nuint)(buffer.Length - filled));
            if (count == 0)
                return buffer[..filled];
            if (count > 0)
                filled += (int)count;
            else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw SyscallException.FromLastError("read", path);
        }
    }

    internal static string ReadLink(string path)
    {
        Span<byte> target = stackalloc byte[4096];
        var length = LibC.readlink(path, target, (nuint)target.Length);
        return length < 0 ? throw SyscallException.FromLastError("readlink", path) : Encoding.UTF8.GetString(target[..(int)length]);
    }

    /// <summary>The entries whose names are numbers, sorted.</summary>
    internal static int[] Numbers(string directory)
    {
        // Directory.Enumerate would hide the error number.
        using (LibC.Open(directory, LibC.O_RDONLY | LibC.O_DIRECTORY))
        {
            var numbers = new List<int>();
            foreach (var entry in Directory.EnumerateFileSystemEntries(directory))
            {
                if (int.TryParse(Path.GetFileName(entry.AsSpan()), out var number))
                    numbers.Add(number);
            }

            numbers.Sort();
            return [.. numbers];
        }
    }
}
