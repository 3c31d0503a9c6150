using System.Globalization;

namespace CprSharp.Bench;

/// <summary>What is measured, and what it runs on.</summary>
internal sealed record Components(string Qemu, string GuestKernel, string GuestInitrd, string GuestAppend, string Program, string ProgramIs)
{
    /// <summary>Reads the environment that <c>integration-vm/with-components</c> makes.</summary>
    public static Components Find(string root, string? program)
    {
        var (path, kind) = FindProgram(root, program);
        return new Components(
            Variable("CPRSHARP_QEMU_11_1"),
            Variable("CPRSHARP_GUEST_KERNEL"),
            Variable("CPRSHARP_GUEST_INITRD"),
            Variable("CPRSHARP_GUEST_APPEND"),
            path,
            kind);
    }

    public static string FindRoot()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "CprSharp.sln")))
                return directory.FullName;
        }

        throw new InvalidOperationException($"no CprSharp.sln above {AppContext.BaseDirectory}; run it by `make bench`");
    }

    private static (string Path, string Is) FindProgram(string root, string? program)
    {
        (string Path, string Kind)[] candidates = program is not null
            ? [(program, "as given")]
            :
            [
                (Path.Combine(root, "artifacts", "cprsharp"), "published, ReadyToRun"),
                (Path.Combine(root, "vmm-update", "bin", "Release", "net10.0", "cprsharp"), "Release build, JIT"),
                (Path.Combine(root, "vmm-update", "bin", "Debug", "net10.0", "cprsharp"), "Debug build, JIT"),
            ];
        foreach (var (path, kind) in candidates)
        {
            if (!File.Exists(path))
                continue;
            var built = File.GetLastWriteTimeUtc(path).ToString("yyyy-MM-dd HH:mm 'UTC'", CultureInfo.InvariantCulture);
            return (Path.GetFullPath(path), $"{kind}, of {built}");
        }

        throw new InvalidOperationException($"none of {string.Join(", ", candidates.Select(c => c.Path))} exists; `make publish` makes the first");
    }

    private static string Variable(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value
            ? value
            : throw new InvalidOperationException($"{name} is not set; run it by `make bench`, or by `integration-vm/with-components dotnet run …`");
}
