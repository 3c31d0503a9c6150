using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd;

/// <summary>
/// An open <c>/dev/iommu</c>: a context that holds address spaces, page tables and devices. Owns its descriptor. Disposing it
/// closes the descriptor and nothing else: what is in the context goes when the last process that holds it lets go.
/// </summary>
/// <remarks>
/// <c>Documentation/userspace-api/iommufd.rst</c>. May be used by several threads. Every method throws
/// <see cref="IommufdException"/>; a missing object is ENOENT, an ioctl that the kernel has not is ENOTTY.
/// </remarks>
public sealed partial class IommufdContext : IDisposable
{
    private readonly IoctlChannel _channel;

    private IommufdContext(SafeFileHandle handle, IOperationRecorder? recorder) => _channel = new IoctlChannel(handle, recorder);

    /// <summary>The device.</summary>
    public static string DevicePath => "/dev/iommu";

    /// <summary>The descriptor, for handing over; stays owned by this object.</summary>
    public SafeFileHandle Handle => _channel.Handle;

    /// <summary>Who is told of changes; null for nobody.</summary>
    public IOperationRecorder? Recorder => _channel.Recorder;

    /// <summary>Opens a new context.</summary>
    /// <param name="recorder">Who is told of changes.</param>
    /// <exception cref="FileNotFoundException">The kernel has no iommufd (<c>CONFIG_IOMMUFD</c>; off in Debian's kernels).</exception>
    /// <exception cref="UnauthorizedAccessException">This user may not open it.</exception>
    public static IommufdContext Open(IOperationRecorder? recorder = null) =>
        new(File.OpenHandle(DevicePath, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite), recorder);

    /// <summary>Takes over a context that another process made.</summary>
    /// <param name="handle">Its descriptor; owned by the new object from now on.</param>
    /// <param name="recorder">Who is told of changes; it should know already what is in the context.</param>
    /// <exception cref="ArgumentException">The descriptor is something else.</exception>
    public static IommufdContext Adopt(SafeFileHandle handle, IOperationRecorder? recorder = null)
    {
        ArgumentNullException.ThrowIfNull(handle);
        var info = DescriptorInfo.Of(handle);
        return info.Kind is DescriptorKind.Iommufd or DescriptorKind.VfioContainer
            ? new IommufdContext(handle, recorder)
            : throw new ArgumentException($"{info.Path} is no {DevicePath}.", nameof(handle));
    }

    /// <summary>Destroys an object.</summary>
    /// <exception cref="IommufdException">ENOENT: no such object; EBUSY: something still uses it.</exception>
    public unsafe void Destroy(ObjectId id)
    {
        var argument = new LibC.iommu_destroy { size = (uint)sizeof(LibC.iommu_destroy), id = id.Value };
        _channel.Change("IOMMU_DESTROY", LibC.IOMMU_DESTROY, &argument, id.ToString(), null, new DestroyOperation(id));
    }

    /// <summary>Makes the calling process the owner of everything mapped in this context: pinned pages are charged to it from now on.</summary>
    /// <remarks>
    /// All areas must be mapped by file. A no-op for the present owner. All or nothing, except that with accounting per process and
    /// the previous owner gone the kernel answers EINVAL and changes the owner nevertheless. See <see cref="Changes.ProcessChange"/>
    /// for the call with its preconditions.
    /// </remarks>
    /// <exception cref="IommufdException">EINVAL: an area is not a memory file; EBUSY: an area is being mapped; ENOMEM: over
    /// RLIMIT_MEMLOCK; ENOTTY: the kernel has no such call (Linux before 6.13).</exception>
    public unsafe void ChangeProcess()
    {
        var argument = new LibC.iommu_ioas_change_process { size = (uint)sizeof(LibC.iommu_ioas_change_process) };
        _channel.Change(
            "IOMMU_IOAS_CHANGE_PROCESS", LibC.IOMMU_IOAS_CHANGE_PROCESS, &argument, "context", null, new ChangeProcessOperation(Environment.ProcessId));
    }

    /// <summary>Whether the kernel has <see cref="ChangeProcess"/>. Changes nothing, not even the owner.</summary>
    public unsafe bool CanChangeProcess()
    {
        // A reserved field that is set is refused before anything is looked at; a call that does not exist is so differently.
        var argument = new LibC.iommu_ioas_change_process { size = (uint)sizeof(LibC.iommu_ioas_change_process), __reserved = 1 };
        return _channel.Try(LibC.IOMMU_IOAS_CHANGE_PROCESS, &argument) switch
        {
            Errno.EOPNOTSUPP => true,
            Errno.ENOTTY => false,
            var errno => throw new IommufdException("IOMMU_IOAS_CHANGE_PROCESS", "context", null, errno),
        };
    }

    /// <summary>Reads an option.</summary>
    /// <param name="option">Which.</param>
    /// <param name="ioas">Whose; null for an option of the whole context.</param>
    public unsafe ulong GetOption(ContextOption option, IoasId? ioas = null)
    {
        var argument = Option(option, LibC.IOMMU_OPTION_OP_GET, ioas, 0);
        _channel.Ask("IOMMU_OPTION", LibC.IOMMU_OPTION, &argument, Target(option, ioas));
        return argument.val64;
    }

    /// <summary>Sets an option.</summary>
    /// <param name="option">Which.</param>
    /// <param name="value">0 or 1.</param>
    /// <param name="ioas">Whose; null for an option of the whole context.</param>
    /// <exception cref="IommufdException">EPERM or EBUSY for the accounting mode: CAP_SYS_RESOURCE and an empty context are needed.</exception>
    public unsafe void SetOption(ContextOption option, ulong value, IoasId? ioas = null)
    {
        var argument = Option(option, LibC.IOMMU_OPTION_OP_SET, ioas, value);
        _channel.Change("IOMMU_OPTION", LibC.IOMMU_OPTION, &argument, Target(option, ioas), null, new SetOptionOperation(option, ioas, value));
    }

    /// <summary>Whether this kernel can hand a context over at all. Touches no context but a fresh, empty one.</summary>
    public static IommufdSupport Probe()
    {
        if (!File.Exists(DevicePath))
            return IommufdSupport.NoDevice;
        try
        {
            using var context = Open();
            return context.CanChangeProcess() ? IommufdSupport.ChangeProcess : IommufdSupport.NoChangeProcess;
        }
        catch (UnauthorizedAccessException)
        {
            return IommufdSupport.NotPermitted;
        }
    }

    /// <inheritdoc />
    public void Dispose() => _channel.Handle.Dispose();

    private static unsafe LibC.iommu_option Option(ContextOption option, ushort op, IoasId? ioas, ulong value) => new()
    {
        size = (uint)sizeof(LibC.iommu_option),
        option_id = (uint)option,
        op = op,
        object_id = ioas?.Value ?? 0,
        val64 = value,
    };

    private static string Target(ContextOption option, IoasId? ioas) => $"{option} of {ioas?.ToString() ?? "context"}";
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
