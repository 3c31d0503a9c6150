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
        await Deadlines.EventuallyAsync(async () =>
        {
            await watch.PauseAsync();
            await Task.Delay(100);
            return watch.Seen().Any(IsResumed) ? null : $"virsh event tells nothing: {File.ReadAllText(watch._file)}";
        });
        await watch.ProveAsync();
        return watch;
    }

    /// <summary>What was told of the domain so far.</summary>
    public string[] Seen() => [.. File.ReadAllLines(_file).Where(l => l.Contains($"'{_domain.Name}'", StringComparison.Ordinal))];

    /// <summary>Pauses and resumes the domain, waits until that is told of, and says how many events were told before.</summary>
    public async Task<string[]> ProveAsync()
    {
        var before = Seen();
        await PauseAsync();
        await Deadlines.EventuallyAsync(() => Seen().Skip(before.Length).Any(IsResumed) ? null : $"virsh event tells nothing more: {File.ReadAllText(_file)}");
        return before;
    }

    private async Task PauseAsync()
    {
        await _domain.VirshAsync("suspend");
        await _domain.VirshAsync("resume");
    }

    private static bool IsResumed(string line) => line.Contains("Resumed", StringComparison.Ordinal);

    public void Dispose() => _virsh.Dispose();
}
