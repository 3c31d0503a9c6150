using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Where runtime state lives.</summary>
internal static class StateDirectory
{
    /// <summary>The option, else <c>CPRSHARP_STATE_DIR</c>, else <c>$XDG_RUNTIME_DIR/cprsharp</c>, else <c>/run/cprsharp</c>.</summary>
    public static string Resolve(string? option)
    {
        var path = Given(option)
            ?? Given(Environment.GetEnvironmentVariable("CPRSHARP_STATE_DIR"))
            ?? (Given(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR")) is { } runtime ? Path.Combine(runtime, "cprsharp") : "/run/cprsharp");
        return Path.GetFullPath(path);

        static string? Given(string? value) => string.IsNullOrEmpty(value) ? null : value;
    }

    public static IEnumerable<VmDirectory> List(string stateDirectory) =>
        Directory.Exists(stateDirectory)
            ? Directory.EnumerateDirectories(stateDirectory)
                .Select(d => new VmDirectory(stateDirectory, Path.GetFileName(d)))
                .Where(d => File.Exists(d.Record))
                .OrderBy(d => d.Name, StringComparer.Ordinal)
            : [];
}
