using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Held by the one supervisor of a VM for as long as it lives; the kernel lets it go when the process ends, however it ends.</summary>
internal sealed class SupervisorLock : IDisposable
{
    /// <summary>The code of the failure when there is another supervisor.</summary>
    public const string Taken = "vm-exists";

    private const int Attempts = 20;
    private readonly FileStream _file;

    private SupervisorLock(FileStream file) => _file = file;

    /// <exception cref="UpdateException">Another supervisor has it.</exception>
    public static async Task<SupervisorLock> TakeAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        // Whoever only looks (IsTaken) has it for an instant, too.
        using var retry = new PeriodicTimer(TimeSpan.FromMilliseconds(10));
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                // FileShare.None is flock(LOCK_EX | LOCK_NB) on this platform.
                return new SupervisorLock(new FileStream(directory.Lock, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
            }
            catch (IOException e) when (e is not (FileNotFoundException or DirectoryNotFoundException))
            {
                if (attempt == Attempts)
                    throw new UpdateException(Taken, $"VM '{directory.Name}' already has a supervisor ({directory.Path})", "choose another name, or end that VM first", e);
                await retry.WaitForNextTickAsync(cancellationToken);
            }
        }
    }

    /// <summary>The lock that the program before this one in our process has taken.</summary>
    public static SupervisorLock Restore(int descriptor) =>
        new(new FileStream(Memfd.ProgramReplacement.Take(descriptor), FileAccess.ReadWrite, bufferSize: 0));

    public int Save(Replacement.KeptDescriptors kept) => kept.Keep(_file.SafeFileHandle);

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
