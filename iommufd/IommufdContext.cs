using System.Runtime.InteropServices;
using CprSharp.Iommufd.Interop;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>An open <c>/dev/iommu</c>: a context that holds IOASes, HWPTs and devices. Owns its descriptor.</summary>
/// <remarks><c>Documentation/userspace-api/iommufd.rst</c>.</remarks>
public sealed class IommufdContext : IDisposable
{
    private readonly SafeFileHandle _handle;

    private IommufdContext(SafeFileHandle handle) => _handle = handle;

    /// <summary>The device.</summary>
    public static string DevicePath => "/dev/iommu";

    /// <summary>The descriptor, for handing over; stays owned by this object.</summary>
    public SafeHandle Handle => _handle;

    /// <summary>Opens a new context.</summary>
    /// <exception cref="FileNotFoundException">The kernel has no iommufd (<c>CONFIG_IOMMUFD</c>; off in Debian's kernels).</exception>
    /// <exception cref="UnauthorizedAccessException">This user may not open it.</exception>
    public static IommufdContext Open() =>
        new(File.OpenHandle(DevicePath, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite));

    /// <summary>Makes an empty I/O address space.</summary>
    /// <returns>Its id in this context.</returns>
    /// <exception cref="SyscallException">ENOMEM.</exception>
    public unsafe uint AllocateIoas()
    {
        var argument = new LibC.iommu_ioas_alloc { size = (uint)sizeof(LibC.iommu_ioas_alloc) };
        Call("IOMMU_IOAS_ALLOC", LibC.IOMMU_IOAS_ALLOC, &argument);
        return argument.out_ioas_id;
    }

    /// <summary>Destroys an object.</summary>
    /// <param name="id">Its id.</param>
    /// <exception cref="SyscallException">ENOENT: no such object; EBUSY: something still uses it.</exception>
    public unsafe void Destroy(uint id)
    {
        var argument = new LibC.iommu_destroy { size = (uint)sizeof(LibC.iommu_destroy), id = id };
        Call($"IOMMU_DESTROY {id}", LibC.IOMMU_DESTROY, &argument);
    }

    /// <summary>Makes the calling process the owner of everything mapped in this context: pinned pages are charged to it from now on.</summary>
    /// <remarks>All areas must be mapped by file (<c>IOMMU_IOAS_MAP_FILE</c>). A no-op for the present owner. All or nothing.</remarks>
    /// <exception cref="SyscallException">EINVAL: an area is not a memory file (a VA map, or a BAR mapped as dma-buf); EBUSY: an area is being
    /// mapped; ENOMEM: over RLIMIT_MEMLOCK; ENOTTY: the kernel has no such call (Linux before 6.13).</exception>
    public unsafe void ChangeProcess()
    {
        var argument = new LibC.iommu_ioas_change_process { size = (uint)sizeof(LibC.iommu_ioas_change_process) };
        Call("IOMMU_IOAS_CHANGE_PROCESS", LibC.IOMMU_IOAS_CHANGE_PROCESS, &argument);
    }

    /// <summary>Whether this kernel can hand a context over at all. Touches no context but a fresh, empty one.</summary>
    public static IommufdSupport Probe()
    {
        if (!File.Exists(DevicePath))
            return IommufdSupport.NoDevice;
        try
        {
            using var context = Open();
            context.ChangeProcess();
            return IommufdSupport.ChangeProcess;
        }
        catch (UnauthorizedAccessException)
        {
            return IommufdSupport.NotPermitted;
        }
        catch (SyscallException e) when (e.Errno == Errno.ENOTTY)
        {
            return IommufdSupport.NoChangeProcess;
        }
    }

    /// <inheritdoc />
    public void Dispose() => _handle.Dispose();

    private unsafe void Call(string name, uint request, void* argument)
    {
        while (LibC.ioctl(_handle, request, argument) < 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw SyscallException.FromLastError("ioctl", name);
        }
    }
}

/// <summary>What this kernel offers for the hand-over of passed-through devices.</summary>
public enum IommufdSupport
{
    /// <summary>There is no <c>/dev/iommu</c>.</summary>
    NoDevice,

    /// <summary>This user may not open it.</summary>
    NotPermitted,

    /// <summary>It is there, without <c>IOMMU_IOAS_CHANGE_PROCESS</c>.</summary>
    NoChangeProcess,

    /// <summary>It is there, with <c>IOMMU_IOAS_CHANGE_PROCESS</c>.</summary>
    ChangeProcess,
}
