using System.Globalization;
using System.Runtime.InteropServices;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>What kind of open file a descriptor refers to.</summary>
public enum DescriptorKind
{
    /// <summary>None of the below; <see cref="DescriptorInfo.Path"/> says what the kernel calls it.</summary>
    Unknown,

    /// <summary>memfd_create(2), with ordinary or huge pages.</summary>
    Memfd,

    /// <summary>memfd_secret(2).</summary>
    SecretMemfd,

    /// <summary>KVM_CREATE_GUEST_MEMFD: tied to its VM.</summary>
    GuestMemfd,

    /// <summary>A file on tmpfs, System V or anonymous shared memory included.</summary>
    ShmemFile,

    /// <summary>A file on hugetlbfs.</summary>
    HugetlbFile,

    /// <summary>A regular file on any other file system.</summary>
    RegularFile,

    /// <summary>A directory.</summary>
    Directory,

    /// <summary>A symbolic link itself (O_PATH).</summary>
    SymbolicLink,

    /// <summary>A socket.</summary>
    Socket,

    /// <summary>A pipe or a FIFO.</summary>
    Pipe,

    /// <summary>eventfd(2).</summary>
    EventFd,

    /// <summary>epoll_create(2).</summary>
    EventPoll,

    /// <summary>timerfd_create(2).</summary>
    TimerFd,

    /// <summary>signalfd(2).</summary>
    SignalFd,

    /// <summary>inotify_init(2).</summary>
    Inotify,

    /// <summary>pidfd_open(2).</summary>
    PidFd,

    /// <summary>io_uring_setup(2): cannot be sent over a socket.</summary>
    IoUring,

    /// <summary>userfaultfd(2) or /dev/userfaultfd: bound to the address space that made it.</summary>
    UserFaultFd,

    /// <summary>/dev/kvm.</summary>
    Kvm,

    /// <summary>A KVM virtual machine: bound to the address space that made it.</summary>
    KvmVm,

    /// <summary>A KVM virtual CPU.</summary>
    KvmVcpu,

    /// <summary>Another KVM object: a device such as kvm-vfio, or statistics.</summary>
    KvmOther,

    /// <summary>/dev/iommu.</summary>
    Iommufd,

    /// <summary>A VFIO device, opened as a character device or through its group.</summary>
    VfioDevice,

    /// <summary>A VFIO group (/dev/vfio/N).</summary>
    VfioGroup,

    /// <summary>A VFIO container (/dev/vfio/vfio).</summary>
    VfioContainer,

    /// <summary>A dma-buf.</summary>
    DmaBuf,

    /// <summary>/dev/net/tun: a tun or tap queue.</summary>
    Tun,

    /// <summary>/dev/tapN: a macvtap queue.</summary>
    MacVtap,

    /// <summary>/dev/vhost-*: bound to the address space of its owner.</summary>
    Vhost,

    /// <summary>/dev/null, zero, full, random or urandom.</summary>
    MemoryDevice,

    /// <summary>A terminal.</summary>
    Terminal,

    /// <summary>Any other character device.</summary>
    CharacterDevice,

    /// <summary>A block device.</summary>
    BlockDevice,
}

/// <summary>What a descriptor may do with its file.</summary>
public enum DescriptorAccess
{
    /// <summary>O_RDONLY.</summary>
    Read,

    /// <summary>O_WRONLY.</summary>
    Write,

    /// <summary>O_RDWR.</summary>
    ReadWrite,

    /// <summary>O_PATH: names a file without access to it.</summary>
    None,
}

/// <summary>A device number.</summary>
/// <param name="Major">Major number.</param>
/// <param name="Minor">Minor number.</param>
public readonly record struct DeviceNumber(uint Major, uint Minor)
{
    /// <summary>As sysfs writes it: <c>10:232</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Major}:{Minor}");
}

/// <summary>What an open file is, from statx(2), the link in /proc and fdinfo.</summary>
/// <param name="Kind">The classification.</param>
/// <param name="Path">What the kernel calls it: a path (with <c> (deleted)</c> where unlinked), <c>/memfd:NAME (deleted)</c>, <c>anon_inode:[eventfd]</c>, <c>socket:[INODE]</c>.</param>
/// <param name="Size">Bytes; 0 where a size means nothing.</param>
/// <param name="Device">The device that the inode is on. With <paramref name="Inode"/> it tells whether two descriptors mean one file; all anonymous inodes share one.</param>
/// <param name="Inode">The inode's number.</param>
/// <param name="SpecialDevice">The device that a character or block special file stands for; 0:0 for others.</param>
/// <param name="BlockSize">Preferred block in bytes: the huge page's size for hugetlb memory.</param>
/// <param name="Mode">File type and permissions as in struct stat.</param>
/// <param name="Access">What the descriptor was opened for.</param>
/// <param name="Flags">O_* flags as fdinfo shows them, O_CLOEXEC (0x80000) included.</param>
public sealed record DescriptorInfo(
    DescriptorKind Kind,
    string Path,
    long Size,
    DeviceNumber Device,
    ulong Inode,
    DeviceNumber SpecialDevice,
    int BlockSize,
    int Mode,
    DescriptorAccess Access,
    int Flags)
{
    /// <summary>Whether an exec closes it.</summary>
    public bool CloseOnExec => (Flags & LibC.O_CLOEXEC) != 0;

    /// <summary>Inspects one of our own descriptors.</summary>
    /// <exception cref="SyscallException">The descriptor is closed, or /proc is not mounted.</exception>
    public static DescriptorInfo Of(SafeHandle fd)
    {
        ArgumentNullException.ThrowIfNull(fd);
        var added = false;
        fd.DangerousAddRef(ref added);
        try
        {
            return Read("self", (int)fd.DangerousGetHandle(), out _);
        }
        finally
        {
            fd.DangerousRelease();
        }
    }

    internal static DescriptorInfo Read(string process, int number, out IReadOnlyDictionary<string, string> details)
    {
        var link = $"/proc/{process}/fd/{number}";
        var path = ProcFile.ReadLink(link);
        var stat = LibC.Stat(link);
        details = ProcParser.KeyValues(ProcFile.ReadText($"/proc/{process}/fdinfo/{number}"));
        var flags = Convert.ToInt32(details["flags"], 8);
        var special = new DeviceNumber(stat.RdevMajor, stat.RdevMinor);
        var kind = DescriptorClassifier.Classify(path, stat.Mode, special, () => LibC.FileSystemType(link), DescriptorClassifier.SysfsName);
        return new DescriptorInfo(
            kind,
            path,
            (long)stat.Size,
            new DeviceNumber(stat.DevMajor, stat.DevMinor),
            stat.Inode,
            special,
            (int)stat.BlockSize,
            stat.Mode,
            (flags & LibC.O_PATH) != 0 ? DescriptorAccess.None : (DescriptorAccess)(flags & 3),
            flags);
    }
}
