using System.Diagnostics;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Gives a VMM the descriptors back that it closes, but goes on to count on, when a device is unplugged. Owns duplicates of them.</summary>
/// <remarks>
/// With <c>aux-ram-share=on</c>, QEMU (10.0.13, 11.1.3) notes the descriptor of a device's own memory (its option ROM, its video memory) as
/// <c>PLACE/NAME</c>, and when the device is unplugged forgets it as <c>NAME</c> (<c>cpr_save_fd</c>, <c>cpr_delete_fd</c>): the number stays in its list,
/// and is closed. Two things come of it, both seen. <c>cpr-transfer</c> passes on all of the list, and crashes where a number of it is free
/// ("Unable to write to socket: Bad file descriptor", SIGSEGV): the guest is lost. And a device that is plugged into the same place later takes whatever
/// file has the number by then for its memory: a disk image that was added in between has the option ROM written into it.
/// <para>With its file back at the number both are right: the list passes on memory of the right size, and the next device at that place gets it.</para>
/// </remarks>
internal sealed class DeviceMemory(Vmm vmm, ILogger logger) : IAsyncDisposable
{
    private const string Memfd = "/memfd:";

    /// <summary>How long clients wait to hear of an unplugged device. QEMU closes the descriptor a grace period of its RCU later, if there is one.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(100);

    /// <summary>How long it is looked for in all, on a host that is busy.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>Nothing tells that a process has closed a descriptor.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(2);

    private readonly Lock _lock = new();
    private readonly Dictionary<int, DeviceFile> _files = [];
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly CancellationTokenSource _ending = new();
    private Task _following = Task.CompletedTask;

    /// <summary>What cannot be given back, because another file has the number. A device that is plugged now could take that file for its memory.</summary>
    public IReadOnlyList<string> Lost()
    {
        var open = Open();
        lock (_lock)
        {
            return [.. _files.Values.Where(f => open.TryGetValue(f.Number, out var now) && !f.Is(now))
                .Select(f => $"descriptor {f.Number}, which QEMU still takes for the memory of an unplugged device ({f.Name}), is {open[f.Number].Info.Path} by now")];
        }
    }

    /// <summary>Takes duplicates of what devices have that were plugged since.</summary>
    public void Note()
    {
        foreach (var entry in Open().Values.Where(IsOfADevice))
        {
            lock (_lock)
            {
                if (_files.TryGetValue(entry.Number, out var known) && known.Is(entry))
                    continue;
                try
                {
                    _files[entry.Number] = new DeviceFile(entry.Number, NameOf(entry), entry.Info.Inode, vmm.PidFd.GetDescriptor(entry.Number));
                    known?.Handle.Dispose();
                }
                catch (SyscallException e)
                {
                    SupervisorLog.DeviceMemory(logger, $"no duplicate of {NameOf(entry)}: {e.Message}");
                }
            }
        }
    }

    /// <summary>A device was unplugged: returns when its descriptor is back, or when it seems to have none.</summary>
    public async Task FollowUnplugAsync()
    {
        lock (_lock)
        {
            if (_files.Count == 0)
                return;
        }

        var following = _following = WhenUnpluggedAsync(_following, _ending.Token);
        await ((Task)following.WaitAsync(Grace)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Opens every number again that was closed.</summary>
    public async Task RestoreAsync(CancellationToken cancellationToken)
    {
        await _one.WaitAsync(cancellationToken);
        try
        {
            await ReopenAsync(cancellationToken);
        }
        finally
        {
            _one.Release();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync();
        await _following.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        lock (_lock)
        {
            foreach (var file in _files.Values)
                file.Handle.Dispose();
            _files.Clear();
        }

        _ending.Dispose();
        _one.Dispose();
    }

    /// <summary>A descriptor that is sent gets the lowest free number, so the holes below have to be filled as well.</summary>
    private async Task ReopenAsync(CancellationToken cancellationToken)
    {
        var spare = new List<string>();
        try
        {
            var open = Open();
            while (Missing(open) is { Count: > 0 } missing)
            {
                var file = missing.Find(f => f.Number == LowestFree(open)) ?? missing[0];
                var name = $"cprsharp-{Guid.NewGuid():N}";
                await vmm.GiveAsync(name, file.Handle, cancellationToken);
                open = Open();
                if (open.ContainsKey(file.Number))
                    SupervisorLog.DeviceMemory(logger, $"descriptor {file.Number} ({file.Name}) of an unplugged device was opened again");
                else
                    spare.Add(name);
            }
        }
        finally
        {
            foreach (var name in spare)
                await vmm.ExecuteAsync("closefd", new JsonObject { ["fdname"] = name }, CancellationToken.None);
        }
    }

    private async Task WhenUnpluggedAsync(Task before, CancellationToken cancellationToken)
    {
        await before.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        try
        {
            var clock = Stopwatch.StartNew();
            while (clock.Elapsed < Patience && !vmm.Exited.IsCompleted)
            {
                if (Missing(Open()).Count > 0)
                {
                    await RestoreAsync(cancellationToken);
                    return;
                }

                await Task.Delay(clock.Elapsed < Grace ? Look : Look * 10, cancellationToken);
            }
        }
        catch (Exception e) when (e is QmpException or IOException)
        {
            SupervisorLog.DeviceMemory(logger, $"an unplugged device's descriptor was not opened again: {e.Message}");
        }
    }

    /// <summary>None where the descriptors could not be listed.</summary>
    private List<DeviceFile> Missing(Dictionary<int, DescriptorEntry> open)
    {
        lock (_lock)
            return open.Count == 0 ? [] : [.. _files.Values.Where(f => !open.ContainsKey(f.Number))];
    }

    private Dictionary<int, DescriptorEntry> Open()
    {
        try
        {
            return ProcFs.Descriptors(vmm.Pid).ToDictionary(d => d.Number);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or SyscallException)
        {
            if (!vmm.Exited.IsCompleted)
                SupervisorLog.DeviceMemory(logger, $"the VMM's descriptors cannot be listed: {e.Message}");
            return [];
        }
    }

    private static int LowestFree(Dictionary<int, DescriptorEntry> open) => Enumerable.Range(0, int.MaxValue).First(n => !open.ContainsKey(n));

    /// <summary><c>0000:00:01.0:00.0/virtio-net-pci.rom</c>, but not <c>pc.rom</c> and not <c>/rom@etc/acpi/tables</c>.</summary>
    private static bool IsOfADevice(DescriptorEntry entry) =>
        entry.Info.Kind == DescriptorKind.Memfd && NameOf(entry).IndexOf('/', StringComparison.Ordinal) > 0;

    private static string NameOf(DescriptorEntry entry) =>
        entry.Info.Path.StartsWith(Memfd, StringComparison.Ordinal) ? entry.Info.Path[Memfd.Length..].Replace(" (deleted)", "", StringComparison.Ordinal) : "";

    private sealed record DeviceFile(int Number, string Name, ulong Inode, SafeFileHandle Handle)
    {
        public bool Is(DescriptorEntry entry) => entry.Info.Kind == DescriptorKind.Memfd && entry.Info.Inode == Inode;
    }
}
