using System.Runtime.InteropServices;

namespace CprSharp.Iommufd.Interop;

/// <summary><c>include/uapi/linux/iommufd.h</c>: every request is <c>_IO(';', nr)</c>, every structure begins with its own size.</summary>
internal static partial class LibC
{
    public const uint IOMMU_DESTROY = 0x3b80;
    public const uint IOMMU_IOAS_ALLOC = 0x3b81;
    public const uint IOMMU_IOAS_CHANGE_PROCESS = 0x3b92;

    [LibraryImport("libc", SetLastError = true)]
    public static unsafe partial int ioctl(SafeHandle fd, nuint request, void* argument);

    [StructLayout(LayoutKind.Sequential)]
    public struct iommu_destroy
    {
        public uint size;
        public uint id;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct iommu_ioas_alloc
    {
        public uint size;
        public uint flags;
        public uint out_ioas_id;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct iommu_ioas_change_process
    {
        public uint size;
        public uint __reserved;
    }
}
