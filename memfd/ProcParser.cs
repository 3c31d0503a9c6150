using System.Globalization;
using System.Text;

namespace CprSharp.Memfd;

/// <summary>The text formats of /proc, as pure functions.</summary>
internal static class ProcParser
{
    private const NumberStyles Hex = NumberStyles.AllowHexSpecifier;

    private static readonly (string Name, Resource Resource)[] LimitNames =
    [
        ("Max cpu time", Resource.CpuTime),
        ("Max file size", Resource.FileSize),
        ("Max data size", Resource.DataSize),
        ("Max stack size", Resource.StackSize),
        ("Max core file size", Resource.CoreFileSize),
        ("Max resident set", Resource.ResidentSet),
        ("Max processes", Resource.Processes),
        ("Max open files", Resource.OpenFiles),
        ("Max locked memory", Resource.LockedMemory),
        ("Max address space", Resource.AddressSpace),
        ("Max file locks", Resource.FileLocks),
        ("Max pending signals", Resource.PendingSignals),
        ("Max msgqueue size", Resource.MessageQueueSize),
        ("Max nice priority", Resource.NicePriority),
        ("Max realtime priority", Resource.RealtimePriority),
        ("Max realtime timeout", Resource.RealtimeTimeout),
    ];

    /// <summary>Lines of <c>key: value</c> (status, fdinfo). Lines without a colon are skipped; repeated keys are joined by line feeds.</summary>
    internal static Dictionary<string, string> KeyValues(string text)
    {
        var values = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var line in Lines(text))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0)
                continue;
            var (key, value) = (line[..colon], line[(colon + 1)..].Trim());
            values[key] = values.TryGetValue(key, out var earlier) ? $"{earlier}\n{value}" : value;
        }

        return values;
    }

    internal static string[] NulTerminated(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
            return [];
        // A process that rewrote its title may have left the last terminator out.
        var text = Encoding.UTF8.GetString(bytes[^1] == 0 ? bytes[..^1] : bytes);
        return text.Split('\0');
    }

    internal static Dictionary<string, string> Environment(ReadOnlySpan<byte> bytes)
    {
        var variables = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var entry in NulTerminated(bytes))
        {
            var equals = entry.IndexOf('=', StringComparison.Ordinal);
            if (equals > 0)
                variables.TryAdd(entry[..equals], entry[(equals + 1)..]); // getenv(3) finds the first
        }

        return variables;
    }

    /// <summary><c>start-end perms offset major:minor inode   path</c>.</summary>
    internal static List<MapEntry> Maps(string text)
    {
        var maps = new List<MapEntry>();
        foreach (var line in Lines(text))
        {
            var fields = line.Split(' ', 6);
            if (fields.Length < 5 || fields[1].Length != 4)
                throw new FormatException($"Not a line of /proc/PID/maps: {line}");
            var (start, end) = Pair(fields[0], '-');
            var (major, minor) = Pair(fields[3], ':');
            var path = fields.Length == 6 ? fields[5].TrimStart(' ') : "";
            maps.Add(new MapEntry(
                start,
                end,
                Protection(fields[1]),
                fields[1][3] == 's',
                ulong.Parse(fields[2], Hex, CultureInfo.InvariantCulture),
                new DeviceNumber((uint)major, (uint)minor),
                ulong.Parse(fields[4], NumberStyles.None, CultureInfo.InvariantCulture),
                path.Length == 0 ? null : path.Replace("\\012", "\n", StringComparison.Ordinal)));
        }

        return maps;
    }

    internal static ProcessStatus Status(string text)
    {
        var values = KeyValues(text);
        return new ProcessStatus(
            values["Name"],
            values["State"][0],
            Integer(values["PPid"]),
            Integer(values["TracerPid"]),
            Ids(values["Uid"]),
            Ids(values["Gid"]),
            [.. Numbers(values["Groups"])],
            Integer(values["Threads"]),
            new CapabilitySets(Set("CapInh"), Set("CapPrm"), Set("CapEff"), Set("CapBnd"), Set("CapAmb")),
            new SignalSets(Set("SigBlk"), Set("SigIgn"), Set("SigCgt")),
            values.GetValueOrDefault("NoNewPrivs") == "1",
            values.TryGetValue("Seccomp", out var seccomp) ? Integer(seccomp) : null,
            KiloBytes("VmLck"),
            KiloBytes("VmPin"),
            KiloBytes("VmRSS"));

        ulong Set(string key) => values.TryGetValue(key, out var set) ? ulong.Parse(set, Hex, CultureInfo.InvariantCulture) : 0;

        long? KiloBytes(string key) => values.TryGetValue(key, out var size)
            ? long.Parse(size.AsSpan(0, size.IndexOf(' ', StringComparison.Ordinal)), NumberStyles.None, CultureInfo.InvariantCulture) * 1024
            : null;
    }

    /// <summary>Field 22 of /proc/PID/stat. The command in field 2 may itself hold spaces and parentheses.</summary>
    internal static long StartTimeTicks(string text)
    {
        var rest = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return long.Parse(rest[22 - 3], NumberStyles.None, CultureInfo.InvariantCulture);
    }

    internal static Dictionary<Resource, ResourceLimit> Limits(string text)
    {
        var limits = new Dictionary<Resource, ResourceLimit>();
        foreach (var line in Lines(text))
        {
            foreach (var (name, resource) in LimitNames)
            {
                if (!line.StartsWith(name, StringComparison.Ordinal))
                    continue;
                var values = line[name.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
                limits[resource] = new ResourceLimit(Limit(values[0]), Limit(values[1]));
            }
        }

        return limits;

        static ulong Limit(string value) =>
            value == "unlimited" ? ResourceLimit.Unlimited : ulong.Parse(value, NumberStyles.None, CultureInfo.InvariantCulture);
    }

    /// <summary><c>hierarchy:controllers:path</c>; the path may hold colons.</summary>
    internal static List<CgroupEntry> Cgroups(string text) =>
    [
        .. Lines(text).Select(line => line.Split(':', 3)).Select(fields => new CgroupEntry(Integer(fields[0]), fields[1], fields[2])),
    ];

    internal static int Integer(string text) => int.Parse(text, NumberStyles.Integer, CultureInfo.InvariantCulture);

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static (ulong First, ulong Second) Pair(string text, char separator)
    {
        var at = text.IndexOf(separator, StringComparison.Ordinal);
        return (
            ulong.Parse(text.AsSpan(0, at), Hex, CultureInfo.InvariantCulture),
            ulong.Parse(text.AsSpan(at + 1), Hex, CultureInfo.InvariantCulture));
    }

    private static MappingProtection Protection(string permissions) =>
        (permissions[0] == 'r' ? MappingProtection.Read : MappingProtection.None)
        | (permissions[1] == 'w' ? MappingProtection.Write : MappingProtection.None)
        | (permissions[2] == 'x' ? MappingProtection.Execute : MappingProtection.None);

    private static IEnumerable<uint> Numbers(string text) =>
        text.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)
            .Select(number => uint.Parse(number, NumberStyles.None, CultureInfo.InvariantCulture));

    private static ProcessIds Ids(string text)
    {
        var ids = Numbers(text).ToArray();
        return new ProcessIds(ids[0], ids[1], ids[2], ids[3]);
    }
}
