using System.Globalization;
using System.Runtime.InteropServices;
using CprSharp.Memfd;

namespace CprSharp.Iommufd.Model;

/// <summary>Which file it is, whatever descriptor leads to it.</summary>
/// <param name="Device">The device that the inode is on.</param>
/// <param name="Inode">The inode's number.</param>
public readonly record struct FileIdentity(DeviceNumber Device, ulong Inode)
{
    /// <summary>Of an open file.</summary>
    /// <exception cref="SyscallException">The descriptor is closed.</exception>
    public static FileIdentity Of(SafeHandle fd) => Of(DescriptorInfo.Of(fd));

    /// <summary>Of an inspected file.</summary>
    public static FileIdentity Of(DescriptorInfo info)
    {
        ArgumentNullException.ThrowIfNull(info);
        return new FileIdentity(info.Device, info.Inode);
    }

    /// <summary>For example <c>file 0:1/1025</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"file {Device}/{Inode}");
}
