using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Who a process is: user, groups, namespaces, environment. Needed where a VMM was started by somebody else than its supervisor.</summary>
/// <remarks>Taken over by util-linux's <c>nsenter</c> and <c>setpriv</c>, which become the VMM by exec: the PID and the descriptors stay.</remarks>
internal sealed record ProcessIdentity(
    int Pid,
    uint Uid,
    uint Gid,
    IReadOnlyList<uint> Groups,
    IReadOnlyList<string> ForeignNamespaces,
    IReadOnlyDictionary<string, string> Environment)
{
    private static readonly Dictionary<string, string> NamespaceOptions = new(StringComparer.Ordinal)
    {
        ["mnt"] = "--mount",
        ["net"] = "--net",
        ["uts"] = "--uts",
        ["ipc"] = "--ipc",
        ["cgroup"] = "--cgroup",
    };

    public static ProcessIdentity Of(int pid)
    {
        var status = ProcFs.Status(pid);
        var ours = ProcFs.Namespaces(System.Environment.ProcessId);
        var foreign = ProcFs.Namespaces(pid)
            .Where(n => NamespaceOptions.ContainsKey(n.Key) && ours.TryGetValue(n.Key, out var inode) && inode != n.Value)
            .Select(n => n.Key)
            .Order(StringComparer.Ordinal)
            .ToList();
        return new ProcessIdentity(pid, status.UserIds.Effective, status.GroupIds.Effective, status.Groups, foreign, EnvironmentOf(pid));
    }

    /// <summary>A process's environment, for another one like it: without the word of an exec that only the process itself was meant to read.</summary>
    public static IReadOnlyDictionary<string, string> EnvironmentOf(int pid) =>
        ProcFs.Environment(pid).Where(v => v.Key != ProgramSpares.StateVariable).ToDictionary(StringComparer.Ordinal);

    /// <summary>The same start, as this identity.</summary>
    public VmmStart Apply(VmmStart start)
    {
        var own = ProcFs.Status(System.Environment.ProcessId);
        List<string> prefix = [];
        if (ForeignNamespaces.Count > 0)
            prefix.AddRange(["nsenter", "--target", Text(Pid), .. ForeignNamespaces.Select(n => NamespaceOptions[n]), $"--wd={start.WorkingDirectory ?? "/"}", "--"]);
        if (Uid != own.UserIds.Effective || Gid != own.GroupIds.Effective)
        {
            prefix.AddRange(
                ["setpriv", $"--reuid={Text(Uid)}", $"--regid={Text(Gid)}", Groups.Count > 0 ? $"--groups={string.Join(',', Groups.Select(g => Text(g)))}" : "--clear-groups", "--"]);
        }

        var asSelf = start with { Environment = Environment };
        return prefix.Count == 0
            ? asSelf
            : asSelf with { Program = Find(prefix[0]), Arguments = [.. prefix[1..], start.Binary, .. start.Arguments] };
    }

    private static string Find(string tool) =>
        new[] { "/usr/bin", "/bin", "/usr/sbin", "/sbin" }.Select(d => Path.Combine(d, tool)).FirstOrDefault(File.Exists)
        ?? throw new Update.UpdateException("tool-missing", $"{tool} is needed to start the new VMM as the old one's user, and is not installed", "install util-linux");

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
