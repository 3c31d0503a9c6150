using System.Globalization;
using CprSharp.Memfd.Interop;

namespace CprSharp.Memfd;

/// <summary>Becoming another program: the process stays, with its number and every descriptor that is not close-on-exec.</summary>
public static class ProgramReplacement
{
    private const int CloseOnExec = 0x80000; // O_CLOEXEC as fdinfo shows it, proc_pid_fdinfo(5)

    /// <summary>Numbers above 2 that a program which this process becomes would have: those that our own caller passed to us.</summary>
    public static IReadOnlyList<int> PassedDescriptors() =>
        [.. ProcFile.Numbers("/proc/self/fd").Where(number => number > 2 && IsPassed(number))];

    /// <summary>Executes a program in this process's place (execve(2)), with every signal at its default.</summary>
    /// <param name="path">The program's file.</param>
    /// <param name="arguments">argv from 1 on.</param>
    /// <returns>Never.</returns>
    /// <exception cref="SyscallException">execve: the program cannot be executed; this one goes on.</exception>
    public static unsafe int Execute(string path, IReadOnlyList<string> arguments)
    {
        using var argv = new NativeStrings([path, .. arguments]);
        using var environment = new NativeStrings(Spawner.Environment(null));

        // An ignored signal stays ignored over an exec, and the runtime ignores SIGPIPE.
        for (var signal = 1; signal <= LastSignal; signal++)
            _ = LibC.signal(signal, 0);
        _ = LibC.execve(path, argv.Pointer, environment.Pointer);
        throw SyscallException.FromLastError("execve", path);
    }

    private const int LastSignal = 64;

    private static bool IsPassed(int number)
    {
        try
        {
            var flags = ProcFile.ReadText($"/proc/self/fdinfo/{number.ToString(CultureInfo.InvariantCulture)}")
                .Split('\n').First(l => l.StartsWith("flags:", StringComparison.Ordinal));
            return (Convert.ToInt32(flags["flags:".Length..].Trim(), 8) & CloseOnExec) == 0;
        }
        catch (SyscallException e) when (e.Errno == Errno.ENOENT)
        {
            return false; // the descriptor that read the directory
        }
    }
}
