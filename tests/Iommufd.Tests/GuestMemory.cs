using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests;

/// <summary>A memfd, mapped.</summary>
internal sealed class GuestMemory : IDisposable
{
    internal GuestMemory(ulong length, Seals seals = Seals.Shrink | Seals.Grow, long? hugePage = null)
    {
        Handle = MemoryFile.Create("guest", (long)length, new MemfdOptions { Seals = seals, HugePageSize = hugePage });
        Mapping = MemoryMapping.Map(Handle, 0, (nuint)length, MappingProtection.Read | MappingProtection.Write);
        if (hugePage is not null)
            Mapping.Populate(); // Linux 7.3.4 pins no huge page of a memfd that is not there yet: ENOMEM
        File = MappableFile.Unchecked(Handle);
    }

    internal SafeFileHandle Handle { get; }

    internal MemoryMapping Mapping { get; }

    internal MappableFile File { get; }

    internal nint Address => Mapping.DangerousGetHandle();

    internal ulong Length => Mapping.Length;

    public void Dispose()
    {
        Mapping.Dispose();
        Handle.Dispose();
    }
}
