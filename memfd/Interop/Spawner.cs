using System.Collections;

namespace CprSharp.Memfd.Interop;

/// <summary>posix_spawn(3) for a <see cref="ChildProcessStart"/>.</summary>
internal static unsafe class Spawner
{
    private const int FirstFree = 3;

    internal static int Spawn(ChildProcessStart start)
    {
        Validate(start);
        using var arguments = new NativeStrings([start.Argv0 ?? start.Path, .. start.Arguments]);
        using var environment = new NativeStrings(Environment(start.Environment));
        using var descriptors = new SpawnDescriptors(start);
        var actions = stackalloc byte[LibC.SpawnStructureBytes];
        var attributes = stackalloc byte[LibC.SpawnStructureBytes];

        Check(LibC.posix_spawn_file_actions_init(actions));
        try
        {
            descriptors.AddTo(actions);
            Check(LibC.posix_spawnattr_init(attributes));
            try
            {
                SetAttributes(attributes, start);
                // The working directory changes before the exec, so a relative path has to be resolved here.
                var path = Path.GetFullPath(start.Path);
                var error = LibC.posix_spawn(out var pid, path, actions, attributes, arguments.Pointer, environment.Pointer);
                return error == 0 ? pid : throw new SyscallException("posix_spawn", path, error, Hint(error, path));
            }
            finally
            {
                Check(LibC.posix_spawnattr_destroy(attributes));
            }
        }
        finally
        {
            Check(LibC.posix_spawn_file_actions_destroy(actions));
        }
    }

    internal static void Check(int error)
    {
        if (error != 0)
            throw new SyscallException("posix_spawn", "attributes", error);
    }

    private static void Validate(ChildProcessStart start)
    {
        if (string.IsNullOrEmpty(start.Path))
            throw new ArgumentException("The path of the program is empty.", nameof(start));
        var numbers = new HashSet<int>();
        foreach (var (handle, number) in start.Descriptors)
        {
            if (handle is null)
                throw new ArgumentException($"Descriptor number {number} has no handle.", nameof(start));
            if (number < FirstFree)
                throw new ArgumentException($"Descriptor number {number}: 0, 1 and 2 are StandardInput, StandardOutput and StandardError.", nameof(start));
            if (!numbers.Add(number))
                throw new ArgumentException($"Descriptor number {number} is given twice.", nameof(start));
        }
    }

    private static void SetAttributes(byte* attributes, ChildProcessStart start)
    {
        var set = stackalloc byte[LibC.SpawnStructureBytes];
        // Every bit, where sigfillset(3) would spare signals 32 and 33: glibc leaves those ignored in the child then.
        var signals = new Span<byte>(set, LibC.SpawnStructureBytes);
        signals.Fill(0xFF);
        Check(LibC.posix_spawnattr_setsigdefault(attributes, set));
        signals.Clear();
        Check(LibC.posix_spawnattr_setsigmask(attributes, set));
        Check(LibC.posix_spawnattr_setpgroup(attributes, 0));
        var flags = LibC.POSIX_SPAWN_SETSIGDEF | LibC.POSIX_SPAWN_SETSIGMASK;
        if (start.NewSession)
            flags |= LibC.POSIX_SPAWN_SETSID;
        else if (start.NewProcessGroup)
            flags |= LibC.POSIX_SPAWN_SETPGROUP;
        Check(LibC.posix_spawnattr_setflags(attributes, (short)flags));
    }

    internal static IEnumerable<string> Environment(IReadOnlyDictionary<string, string>? environment)
    {
        if (environment is null)
        {
            foreach (DictionaryEntry entry in System.Environment.GetEnvironmentVariables())
                yield return $"{entry.Key}={entry.Value}";
            yield break;
        }

        foreach (var (name, value) in environment)
        {
            yield return name.Length > 0 && !name.Contains('=', StringComparison.Ordinal)
                ? $"{name}={value}"
                : throw new ArgumentException($"'{name}' cannot be the name of an environment variable.", nameof(environment));
        }
    }

    private static string? Hint(int error, string path) => error == Errno.ENOENT && File.Exists(path)
        ? "the file exists, but the interpreter that it asks for (ELF loader or #! line) does not"
        : null;
}
