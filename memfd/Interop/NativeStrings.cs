using System.Runtime.InteropServices;

namespace CprSharp.Memfd.Interop;

/// <summary>A NULL-terminated array of UTF-8 C strings (argv, envp).</summary>
internal sealed unsafe class NativeStrings : IDisposable
{
    private readonly int _count;

    internal NativeStrings(IEnumerable<string> strings)
    {
        var all = strings.ToArray();
        foreach (var s in all)
        {
            if (s.Contains('\0', StringComparison.Ordinal))
                throw new ArgumentException($"An argument or environment variable holds a NUL: {s}", nameof(strings));
        }

        Pointer = (byte**)NativeMemory.AllocZeroed((nuint)all.Length + 1, (nuint)sizeof(byte*));
        for (; _count < all.Length; _count++)
            Pointer[_count] = (byte*)Marshal.StringToCoTaskMemUTF8(all[_count]);
    }

    internal byte** Pointer { get; }

    public void Dispose()
    {
        for (var i = 0; i < _count; i++)
            Marshal.FreeCoTaskMem((nint)Pointer[i]);
        NativeMemory.Free(Pointer);
    }
}
