using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Held by the one supervisor of a VM for as long as it lives; the kernel lets it go when the process ends, however it ends.</summary>
internal sealed class SupervisorLock : IDisposable
{
    private readonly FileStream _file;

    private SupervisorLock(FileStream file) => _file = file;

    /// <exception cref="UpdateException">Another supervisor has it.</exception>
    public static SupervisorLock Take(VmDirectory directory)
    {
        try
        {
            // FileShare.None is flock(LOCK_EX | LOCK_NB) on this platform.
            return new SupervisorLock(new FileStream(directory.Lock, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException e) when (e is not (FileNotFoundException or DirectoryNotFoundException))
        {
            throw new UpdateException("vm-exists", $"VM '{directory.Name}' already has a supervisor ({directory.Path})", "choose another name, or end that VM first", e);
        }
    }

    /// <summary>Whether a supervisor has it now.</summary>
    public static bool IsTaken(VmDirectory directory)
    {
        if (!File.Exists(directory.Lock))
            return false;
        try
        {
            using var file = new FileStream(directory.Lock, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return false;
        }
        catch (IOException)
        {
            return true;
        }
    }

    public void Dispose() => _file.Dispose();
}
