using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Binaries whose content was compared, kept open: what is executed is what was looked at, whatever becomes of the path.</summary>
/// <remarks>For the supervisor's life, since a number that is used again would be another file.</remarks>
internal sealed class VerifiedBinaries : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, SafeFileHandle> _latest = new(StringComparer.Ordinal);
    private readonly List<SafeFileHandle> _all = [];

    /// <exception cref="UpdateException">The policy forbids it.</exception>
    public void Verify(BinaryPolicy policy, string path)
    {
        var file = policy.Open(path);
        lock (_lock)
        {
            if (file is null)
            {
                _latest.Remove(path);
            }
            else if (_all.Find(known => IsSame(known, file)) is { } known)
            {
                file.Dispose();
                _latest[path] = known;
            }
            else
            {
                _all.Add(file);
                _latest[path] = file;
            }
        }
    }

    /// <summary>A name for the file that was compared; null when none was. Through this process: the VMM gets no descriptor by it.</summary>
    public string? Executable(string path)
    {
        lock (_lock)
        {
            return _latest.TryGetValue(path, out var file)
                ? string.Create(CultureInfo.InvariantCulture, $"/proc/{Environment.ProcessId}/fd/{file.DangerousGetHandle()}")
                : null;
        }
    }

    public void Dispose() => _all.ForEach(f => f.Dispose());

    private static bool IsSame(SafeFileHandle one, SafeFileHandle other)
    {
        var (a, b) = (DescriptorInfo.Of(one), DescriptorInfo.Of(other));
        return a.Device == b.Device && a.Inode == b.Inode;
    }
}
