namespace CprSharp.Memfd.Interop;

/// <summary>From what stat and the link say to a kind. Pure but for the two questions that it is given to ask.</summary>
internal static class DescriptorClassifier
{
    private const int S_IFMT = 0xF000;
    private const int S_IFIFO = 0x1000;
    private const int S_IFCHR = 0x2000;
    private const int S_IFDIR = 0x4000;
    private const int S_IFBLK = 0x6000;
    private const int S_IFREG = 0x8000;
    private const int S_IFLNK = 0xA000;
    private const int S_IFSOCK = 0xC000;

    /// <param name="link">The link in /proc/PID/fd.</param>
    /// <param name="mode">stx_mode.</param>
    /// <param name="special">stx_rdev.</param>
    /// <param name="fileSystem">Asks statfs for the file system's magic number.</param>
    /// <param name="sysfsName">Asks sysfs for the device's place, for example <c>virtual/misc/kvm</c>; null where it is unknown.</param>
    internal static DescriptorKind Classify(string link, int mode, DeviceNumber special, Func<long> fileSystem, Func<DeviceNumber, string?> sysfsName)
    {
        // Pseudo files first: some of them (guest_memfd, pidfds of newer kernels) pretend to be regular files.
        if (Pseudo(link) is { } pseudo)
            return pseudo;
        return (mode & S_IFMT) switch
        {
            S_IFREG => Regular(link, fileSystem()),
            S_IFCHR => Character(special, sysfsName),
            S_IFBLK => DescriptorKind.BlockDevice,
            S_IFDIR => DescriptorKind.Directory,
            S_IFLNK => DescriptorKind.SymbolicLink,
            S_IFSOCK => DescriptorKind.Socket,
            S_IFIFO => DescriptorKind.Pipe,
            _ => DescriptorKind.Unknown,
        };
    }

    /// <summary>The part of a device's sysfs path after <c>devices/</c>.</summary>
    internal static string? SysfsName(DeviceNumber device)
    {
        try
        {
            var target = ProcFile.ReadLink($"/sys/dev/char/{device}");
            const string devices = "/devices/";
            var start = target.IndexOf(devices, StringComparison.Ordinal);
            return start < 0 ? target : target[(start + devices.Length)..];
        }
        catch (SyscallException e) when (e.Errno is Errno.ENOENT or Errno.EACCES or Errno.ENOTDIR)
        {
            return null;
        }
    }

    private static DescriptorKind? Pseudo(string link)
    {
        // Only the kernel makes links that do not begin with a slash; the spelling with and without brackets varies.
        if (link.StartsWith('/'))
        {
            return link.StartsWith("/dmabuf:", StringComparison.Ordinal) ? DescriptorKind.DmaBuf
                : link.StartsWith("/[kvm-gmem]", StringComparison.Ordinal) ? DescriptorKind.GuestMemfd
                : null;
        }

        if (link.StartsWith("pidfd:", StringComparison.Ordinal))
            return DescriptorKind.PidFd;
        const string anonymous = "anon_inode:";
        if (!link.StartsWith(anonymous, StringComparison.Ordinal))
            return null;
        return link[anonymous.Length..].Trim('[', ']') switch
        {
            "eventfd" => DescriptorKind.EventFd,
            "eventpoll" => DescriptorKind.EventPoll,
            "timerfd" => DescriptorKind.TimerFd,
            "signalfd" => DescriptorKind.SignalFd,
            "inotify" => DescriptorKind.Inotify,
            "pidfd" => DescriptorKind.PidFd,
            "io_uring" => DescriptorKind.IoUring,
            "userfaultfd" => DescriptorKind.UserFaultFd,
            "kvm-vm" => DescriptorKind.KvmVm,
            "kvm-gmem" => DescriptorKind.GuestMemfd,
            "vfio-device" => DescriptorKind.VfioDevice,
            var name when name.StartsWith("kvm-vcpu:", StringComparison.Ordinal) => name.Contains("stats", StringComparison.Ordinal)
                ? DescriptorKind.KvmOther
                : DescriptorKind.KvmVcpu,
            var name when name.StartsWith("kvm-", StringComparison.Ordinal) => DescriptorKind.KvmOther,
            _ => DescriptorKind.Unknown,
        };
    }

    private static DescriptorKind Regular(string link, long fileSystem) => fileSystem switch
    {
        // A file of this name in a real directory has another file system: only the kernel's own mounts reach here unlinked.
        LibC.TMPFS_MAGIC or LibC.HUGETLBFS_MAGIC when link.StartsWith("/memfd:", StringComparison.Ordinal) => DescriptorKind.Memfd,
        LibC.TMPFS_MAGIC => DescriptorKind.ShmemFile,
        LibC.HUGETLBFS_MAGIC => DescriptorKind.HugetlbFile,
        LibC.SECRETMEM_MAGIC => DescriptorKind.SecretMemfd,
        LibC.GUEST_MEMFD_MAGIC => DescriptorKind.GuestMemfd,
        _ => DescriptorKind.RegularFile,
    };

    private static DescriptorKind Character(DeviceNumber special, Func<DeviceNumber, string?> sysfsName) => special switch
    {
        // Fixed numbers: admin-guide/devices.txt of the kernel, linux/miscdevice.h.
        { Major: 1, Minor: 3 or 5 or 7 or 8 or 9 } => DescriptorKind.MemoryDevice,
        { Major: 4 or 5 or (>= 136 and <= 143) } => DescriptorKind.Terminal,
        { Major: 10, Minor: 196 } => DescriptorKind.VfioContainer,
        { Major: 10, Minor: 200 } => DescriptorKind.Tun,
        { Major: 10, Minor: 232 } => DescriptorKind.Kvm,
        { Major: 10, Minor: 238 or 241 } => DescriptorKind.Vhost,
        _ => Named(sysfsName(special)),
    };

    private static DescriptorKind Named(string? name)
    {
        var parts = name?.Split('/') ?? [];
        var last = parts.Length > 0 ? parts[^1] : "";
        var parent = parts.Length > 1 ? parts[^2] : "";
        return (parent, last) switch
        {
            ("misc", "iommu") => DescriptorKind.Iommufd,
            ("misc", "userfaultfd") => DescriptorKind.UserFaultFd,
            ("misc", _) when last.StartsWith("vhost-", StringComparison.Ordinal) => DescriptorKind.Vhost,
            ("vfio-dev", _) => DescriptorKind.VfioDevice,
            ("vfio", _) => DescriptorKind.VfioGroup,
            _ when last.StartsWith("vhost-vdpa-", StringComparison.Ordinal) => DescriptorKind.Vhost,
            _ when last.StartsWith("tap", StringComparison.Ordinal) && Array.Exists(parts, part => part is "net" or "macvtap") => DescriptorKind.MacVtap,
            ("tty", _) => DescriptorKind.Terminal,
            _ => DescriptorKind.CharacterDevice,
        };
    }
}
