using System.Globalization;
using CprSharp.Iommufd;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>What the translation of a command line may know of this host.</summary>
internal static class HostFacts
{
    private const string HugetlbfsType = "hugetlbfs";

    public static LaunchSettings LaunchSettings() => new() { DefaultHugePageSize = DefaultHugePageSize(), DescribePath = Describe, DescribeDevice = DeviceOf };

    /// <summary>Words for an error that a security module may have caused: the label of this process; empty where it has none.</summary>
    public static string ConfinedAs() =>
        ProcFs.SecurityLabel(Environment.ProcessId) is { } label && label is not "unconfined" ? $" (this process is confined as {label})" : "";

    private static long DefaultHugePageSize()
    {
        const string key = "Hugepagesize:";
        var line = File.ReadLines("/proc/meminfo").FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal));
        return line is null ? 2L << 20 : long.Parse(line[key.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture) << 10;
    }

    /// <summary>Null for a descriptor that is not open, too: who opens it says so.</summary>
    private static string? DeviceOf(int descriptor) =>
        new FileInfo($"/proc/self/fd/{descriptor}").LinkTarget is { } path ? VfioDevice.PciOfPath(path) : null;

    private static HostPath Describe(string path)
    {
        var full = Path.GetFullPath(path);
        var kind = Directory.Exists(full) ? HostPathKind.Directory : File.Exists(full) ? HostPathKind.File : HostPathKind.Missing;
        var mount = File.ReadLines("/proc/self/mounts")
            .Select(l => l.Split(' '))
            .Where(m => m.Length > 3 && (full == m[1] || full.StartsWith(m[1].TrimEnd('/') + "/", StringComparison.Ordinal)))
            .MaxBy(m => m[1].Length);
        return new HostPath(kind, mount is { } m && m[2] == HugetlbfsType ? PageSize(m[3]) : null);
    }

    private static long PageSize(string mountOptions)
    {
        var option = mountOptions.Split(',').FirstOrDefault(o => o.StartsWith("pagesize=", StringComparison.Ordinal));
        if (option is null)
            return DefaultHugePageSize();
        var text = option["pagesize=".Length..];
        var shift = char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, _ => 0 };
        return long.Parse(shift == 0 ? text : text[..^1], CultureInfo.InvariantCulture) << shift;
    }
}
