using System.Runtime.InteropServices;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests;

public sealed partial class MappableFileTests
{
    [Fact]
    public void A_memfd_and_a_file_on_tmpfs_are_taken()
    {
        using var memfd = MemoryFile.Create("ram", 8192);
        using var shm = File.OpenHandle($"/dev/shm/{Path.GetRandomFileName()}", FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, FileOptions.DeleteOnClose);

        Assert.Equal(new FileBacking(FileIdentity.Of(memfd), 4096), MappableFile.Inspect(memfd).BackingAt(4096));
        Assert.Equal(8192UL, MappableFile.Inspect(memfd).Size);
        Assert.False(MappableFile.Inspect(shm).IsDmaBuf);
    }

    [Fact]
    public void Other_files_are_refused_by_what_they_are()
    {
        using var regular = File.OpenHandle(typeof(MappableFileTests).Assembly.Location);
        using var nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        using var sealedFile = MemoryFile.Create("sealed", 4096, new MemfdOptions { Seals = Seals.Write });

        Assert.Equal(FileRefusal.NotSharedMemory, Refused(regular).Refusal);
        Assert.Equal(FileRefusal.NotSharedMemory, Refused(nothing).Refusal);
        Assert.Equal(FileRefusal.WriteSealed, Refused(sealedFile).Refusal);
        Assert.Contains("/memfd:sealed", Refused(sealedFile).Message, StringComparison.Ordinal);
        MappableFile.Inspect(sealedFile, MapAccess.Read);
    }

    [Fact]
    public void Secret_memory_is_refused()
    {
        const nint memfdSecret = 447;
        var number = syscall(memfdSecret, 0);
        if (number < 0)
            Assert.Skip($"This kernel has no memfd_secret: {Errno.Name(Marshal.GetLastPInvokeError())}.");
        using var secret = new SafeFileHandle(number, ownsHandle: true);

        Assert.Equal(FileRefusal.SecretMemory, Refused(secret).Refusal);
    }

    private static FileRefusedException Refused(SafeHandle file) => Assert.Throws<FileRefusedException>(() => MappableFile.Inspect(file));

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint argument);
}
