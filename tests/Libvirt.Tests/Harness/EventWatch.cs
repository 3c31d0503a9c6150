using CprSharp.SystemTests.Harness;

namespace CprSharp.LibvirtTests.Harness;

/// <summary>All events that libvirt tells its clients: <c>virsh event --all</c>.</summary>
internal sealed class EventWatch : IDisposable
{
    private readonly Domain _domain;
    private readonly string _file;
    private readonly RunningProgram _virsh;

    private EventWatch(LibvirtHost host, Domain domain)
    {
        _domain = domain;
        _file = host.File($"{domain.Name}.events");
        File.WriteAllText(_file, "");
        _virsh = host.Start("sh", "-c", $"exec stdbuf -oL virsh event --all --loop >>{_file} 2>&1");
    }

    /// <summary>Returns when events have been seen to come.</summary>
    public static async Task<EventWatch> StartAsync(LibvirtHost host, Domain domain)
    {
        var watch = new EventWatch(host, domain);
        await watch.ProveAsync();
        return watch;
    }

    /// <summary>What was told of the domain so far.</summary>
    public string[] Seen() => [.. File.ReadAllLines(_file).Where(l => l.Contains($"'{_domain.Name}'", StringComparison.Ordinal))];

    /// <summary>Pauses and resumes the domain until that is told of, and says how many events were told before the last time.</summary>
    public async Task<string[]> ProveAsync()
    {
        string[] before = [];
        await Deadlines.EventuallyAsync(async () =>
        {
            before = Seen();
            await _domain.VirshAsync("suspend");
            await _domain.VirshAsync("resume");
            await Task.Delay(100);
            return Seen().Skip(before.Length).Any(l => l.Contains("Resumed", StringComparison.Ordinal)) ? null : $"virsh event tells nothing: {File.ReadAllText(_file)}";
        });
        return before;
    }

    public void Dispose() => _virsh.Dispose();
}
