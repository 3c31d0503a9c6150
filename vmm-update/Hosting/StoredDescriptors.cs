using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>
/// What was kept for this program while the one before it died, by name: by the guardian, or in systemd's descriptor store
/// (sd_listen_fds_with_names(3), which the guardian does likewise). Owns what nobody has taken.
/// </summary>
internal sealed class StoredDescriptors : IDisposable
{
    /// <summary>Whom they are for.</summary>
    public const string Process = "LISTEN_PID";

    /// <summary>How many there are, from number 3 on.</summary>
    public const string Count = "LISTEN_FDS";

    /// <summary>Their names, with colons between them.</summary>
    public const string Names = "LISTEN_FDNAMES";

    /// <summary>The number of the first one.</summary>
    public const int First = 3;

    private readonly Dictionary<string, SafeFileHandle> _descriptors = new(StringComparer.Ordinal);

    /// <summary>Nothing was kept.</summary>
    public static StoredDescriptors None => new();

    /// <summary>Takes those that are meant for this process; its children do not learn of them.</summary>
    /// <exception cref="SyscallException">fcntl: EBADF when one that was announced is not there.</exception>
    public static StoredDescriptors FromEnvironment()
    {
        var stored = new StoredDescriptors();
        var (process, count) = (SystemdNotification.Number(Process), SystemdNotification.Number(Count));
        var names = Environment.GetEnvironmentVariable(Names)?.Split(':') ?? [];
        foreach (var variable in new[] { Process, Count, Names })
            Environment.SetEnvironmentVariable(variable, null);
        if (process != Environment.ProcessId)
            return stored;
        try
        {
            for (var i = 0; i < count; i++)
            {
                var descriptor = ProgramReplacement.Take(First + i);
                if (i >= names.Length || !stored._descriptors.TryAdd(names[i], descriptor))
                    descriptor.Dispose();
            }

            return stored;
        }
        catch
        {
            stored.Dispose();
            throw;
        }
    }

    /// <summary>The one of this name, the caller's from now on; null when there is none.</summary>
    public SafeFileHandle? Take(string name) => _descriptors.Remove(name, out var descriptor) ? descriptor : null;

    public void Dispose()
    {
        foreach (var descriptor in _descriptors.Values)
            descriptor.Dispose();
        _descriptors.Clear();
    }
}
