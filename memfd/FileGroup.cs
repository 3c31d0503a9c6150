using System.Globalization;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Groups of users, and which of them a file belongs to.</summary>
public static class FileGroup
{
    private const uint Unchanged = uint.MaxValue;

    /// <summary>Room for a group with thousands of members.</summary>
    private const int EntryBytes = 1 << 20;

    /// <summary>The effective user of this process.</summary>
    public static uint OwnUser => LibC.geteuid();

    /// <summary>The number of a group given by name, as the name service knows it, or by number; null when there is none.</summary>
    /// <exception cref="SyscallException">getgrnam_r: EIO, EMFILE, ERANGE.</exception>
    public static unsafe uint? Find(string group)
    {
        ArgumentException.ThrowIfNullOrEmpty(group);
        if (uint.TryParse(group, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            return number;
        var buffer = new byte[EntryBytes];
        fixed (byte* room = buffer)
        {
            var error = LibC.getgrnam_r(group, out var entry, room, EntryBytes, out var found);
            return error is 0 or Errno.ENOENT or Errno.ESRCH ? found == 0 ? null : entry.Id : throw new SyscallException("getgrnam_r", group, error);
        }
    }

    /// <summary>Gives a file to a group; its owner stays.</summary>
    /// <exception cref="SyscallException">chown: EPERM (we are neither root nor a member of the group), ENOENT.</exception>
    public static void Set(string path, uint group)
    {
        if (LibC.chown(path, Unchanged, group) != 0)
            throw SyscallException.FromLastError("chown", $"{path} to group {group}");
    }
}
