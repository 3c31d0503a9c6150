using System.Globalization;
using CprSharp.Memfd.Interop;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>Another program in this process, with the descriptors that are meant and no other (execve(2)). PID, children, locks and limits stay.</summary>
/// <remarks>
/// SIGTERM, SIGINT and SIGHUP that come while the new program starts wait for it, blocked, until <see cref="Arrived"/>. Should it never
/// get there, SIGALRM ends it: alarm(2) outlives the exec.
/// </remarks>
public static class ProgramReplacement
{
    private const int SIGHUP = 1;
    private const int SIGINT = 2;
    private const int SIGTERM = 15;
    private const int LastSignal = 64;

    /// <summary>Becomes that program. Returns only by an exception, with everything as it was.</summary>
    /// <param name="path">The program's file.</param>
    /// <param name="arguments">argv, from 0 on.</param>
    /// <param name="environment">The whole environment.</param>
    /// <param name="keep">Descriptors besides 0, 1 and 2 that the new program gets, at the same numbers; all others are closed.</param>
    /// <param name="deadline">By when it has to call <see cref="Arrived"/>, in whole seconds.</param>
    /// <exception cref="SyscallException">execve: ENOENT, EACCES, ENOEXEC, E2BIG and others.</exception>
    public static unsafe void Exec(
        string path, IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string> environment, IReadOnlyCollection<int> keep, TimeSpan deadline)
    {
        ArgumentNullException.ThrowIfNull(environment);
        using var argv = new NativeStrings(arguments);
        using var envp = new NativeStrings(environment.Select(v => $"{v.Key}={v.Value}"));
        var full = Path.GetFullPath(path);
        var changed = new List<(int Number, int Flags)>();
        Span<byte> old = stackalloc byte[LibC.SignalSetBytes];
        _ = LibC.pthread_sigmask(LibC.SIG_BLOCK, EndingSignals(), old);
        _ = LibC.alarm((uint)deadline.TotalSeconds);
        try
        {
            SetInheritance(keep, changed);
            _ = LibC.execve(full, argv.Pointer, envp.Pointer);
            throw SyscallException.FromLastError("execve", full);
        }
        finally
        {
            foreach (var (number, flags) in changed)
                _ = LibC.fcntl(number, LibC.F_SETFD, flags);
            _ = LibC.alarm(0);
            _ = LibC.pthread_sigmask(LibC.SIG_SETMASK, old, []);
        }
    }

    /// <summary>Said by the new program when it has its signal handlers, on a thread that lives as long as the process: signals that waited come now.</summary>
    public static void AcceptSignals() => _ = LibC.pthread_sigmask(LibC.SIG_UNBLOCK, EndingSignals(), []);

    /// <summary>Said by the new program when it does its work: it is not ended any more.</summary>
    public static void Arrived() => _ = LibC.alarm(0);

    /// <summary>Takes over a descriptor that the program before this one has left open, close-on-exec from here on.</summary>
    /// <param name="number">Its number, the same as before.</param>
    /// <exception cref="SyscallException">fcntl: EBADF when it is not open.</exception>
    public static SafeFileHandle Take(int number) =>
        LibC.fcntl(number, LibC.F_SETFD, LibC.FD_CLOEXEC) == 0
            ? new SafeFileHandle(number, ownsHandle: true)
            : throw SyscallException.FromLastError("fcntl", $"F_SETFD of descriptor {number}, which was to be left open over the exec");

    /// <summary>Numbers above 2 that a program which this process becomes would have: those that our own caller passed to us.</summary>
    public static IReadOnlyList<int> PassedDescriptors() =>
        [.. ProcFile.Numbers("/proc/self/fd").Where(number => number > 2 && LibC.fcntl(number, LibC.F_GETFD, 0) is >= 0 and var flags && (flags & LibC.FD_CLOEXEC) == 0)];

    /// <summary>Executes a program in this process's place (execve(2)), with every signal at its default.</summary>
    /// <param name="path">The program's file.</param>
    /// <param name="arguments">argv from 1 on.</param>
    /// <returns>Never.</returns>
    /// <exception cref="SyscallException">execve: the program cannot be executed; this one goes on.</exception>
    public static unsafe int Become(string path, IReadOnlyList<string> arguments)
    {
        using var argv = new NativeStrings([path, .. arguments]);
        using var environment = new NativeStrings(Spawner.Environment(null));

        // An ignored signal stays ignored over an exec, and the runtime ignores SIGPIPE.
        for (var signal = 1; signal <= LastSignal; signal++)
            _ = LibC.signal(signal, 0);
        _ = LibC.execve(path, argv.Pointer, environment.Pointer);
        throw SyscallException.FromLastError("execve", path);
    }

    private static void SetInheritance(IReadOnlyCollection<int> keep, List<(int Number, int Flags)> changed)
    {
        foreach (var number in ProcFile.Numbers("/proc/self/fd").Where(n => n > 2))
        {
            var flags = LibC.fcntl(number, LibC.F_GETFD, 0);
            var wanted = keep.Contains(number) ? flags & ~LibC.FD_CLOEXEC : flags | LibC.FD_CLOEXEC;
            if (flags < 0 || wanted == flags)
                continue;
            if (LibC.fcntl(number, LibC.F_SETFD, wanted) != 0)
                throw SyscallException.FromLastError("fcntl", string.Create(CultureInfo.InvariantCulture, $"F_SETFD of descriptor {number}"));
            changed.Add((number, flags));
        }
    }

    private static byte[] EndingSignals()
    {
        var set = new byte[LibC.SignalSetBytes];
        foreach (var signal in new[] { SIGHUP, SIGINT, SIGTERM })
            set[(signal - 1) / 8] |= (byte)(1 << ((signal - 1) % 8));
        return set;
    }
}
