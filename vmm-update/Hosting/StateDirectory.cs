using CprSharp.VmmUpdate.Supervision;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

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
    }

    /// <summary>Where VMs are looked for as well, unless a directory was asked for: those of libvirt's domains.</summary>
    public static IEnumerable<string> Others(string? option)
    {
        if ((Given(option) ?? Given(Environment.GetEnvironmentVariable("CPRSHARP_STATE_DIR"))) is not null)
            return [];
        using var services = Settings.Load();
        return [services.GetRequiredService<IOptions<LibvirtOptions>>().Value.StateDirectory];
    }

    private static string? Given(string? value) => string.IsNullOrEmpty(value) ? null : value;

    public static IEnumerable<VmDirectory> List(string stateDirectory) =>
        Directory.Exists(stateDirectory)
            ? Directory.EnumerateDirectories(stateDirectory)
                .Select(d => new VmDirectory(stateDirectory, Path.GetFileName(d)))
                .Where(d => File.Exists(d.Record))
                .OrderBy(d => d.Name, StringComparer.Ordinal)
            : [];
}
