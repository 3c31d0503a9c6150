using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.Qmp;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What a privileged operator lends an unprivileged supervisor for one update: descriptors that only a privileged process can open,
/// and a socket to who schedules in real time.</summary>
/// <remarks>
/// libvirt runs its emulator, and with it the supervisor, without any capability. So it may not move the new VMM's vCPU threads into the
/// cgroups that libvirt has made for the old one's, nor make a tap device in a network namespace of its own. The kernel asks who has opened a
/// cgroup's file, not who writes to it (CVE-2021-4197).
/// All goes back when the update is over, or its lender gone before it has begun.
/// </remarks>
internal sealed class Loans : IDisposable
{
    /// <summary>Of each network backend: for the new VMM until it runs the guest, and for the old one before it stops it.</summary>
    public const int TapsForOneUpdate = 2;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, SafeFileHandle> _groups = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Queue<IsolatedTap>> _taps = new(StringComparer.Ordinal);
    private object? _lender;
    private RealTimeLoan? _realTime;

    /// <summary>Takes what came with a command: <c>cgroups</c>, the files' paths in the order of their descriptors; or <c>tap</c>, a network
    /// backend's id, with its queues' descriptors and then the socket's, and the device's <c>index</c>; or
    /// <c>real-time</c>, with the socket of a <see cref="RealTimeLoan"/>.</summary>
    /// <param name="lender">Whose it is.</param>
    /// <param name="command">The command's name.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="descriptors">Its descriptors.</param>
    /// <exception cref="QmpException">The descriptors are not what the arguments say.</exception>
    public void Take(object lender, string command, JsonElement arguments, QmpDescriptors descriptors)
    {
        if (arguments.TryGetProperty("real-time", out _))
        {
            TakeRealTime(lender, command, descriptors);
            return;
        }

        var groups = arguments.TryGetProperty("cgroups", out var list) ? list.EnumerateArray().Select(g => g.GetString() ?? "").ToArray() : [];
        var tap = arguments.TryGetProperty("tap", out var id) ? id.GetString() : null;
        if (groups.Length != 0 ? groups.Length != descriptors.Count : tap is null || descriptors.Count < 2)
            throw new QmpException(command, QmpErrorClass.GenericError, $"{descriptors.Count} descriptors came, which are not those of the arguments");

        lock (_lock)
        {
            _lender = lender;
            for (var i = 0; i < groups.Length; i++)
            {
                if (_groups.Remove(groups[i], out var before))
                    before.Dispose();
                _groups[groups[i]] = descriptors.Claim(i);
            }

            if (tap is not null)
                TakeTap(command, tap, arguments.GetProperty("index").GetInt32(), descriptors);
        }
    }

    /// <summary>A cgroup's file, to be written to; null when it was not lent.</summary>
    public SafeFileHandle? Group(string file)
    {
        lock (_lock)
            return _groups.GetValueOrDefault(file);
    }

    /// <summary>A stand-in for a network backend's tap, which the caller owns; null when none was lent.</summary>
    public IsolatedTap? Tap(string netdev)
    {
        lock (_lock)
            return _taps.GetValueOrDefault(netdev)?.TryDequeue(out var tap) == true ? tap : null;
    }

    /// <summary>Who schedules in real time for us; null when nobody does.</summary>
    public RealTimeLoan? RealTime
    {
        get
        {
            lock (_lock)
                return _realTime;
        }
    }

    /// <summary>Whether this is who lent last.</summary>
    public bool IsOf(object lender)
    {
        lock (_lock)
            return _lender == lender;
    }

    /// <summary>The update is over.</summary>
    public void Return()
    {
        lock (_lock)
        {
            _lender = null;
            _realTime?.Dispose();
            _realTime = null;
            foreach (var group in _groups.Values)
                group.Dispose();
            _groups.Clear();
            foreach (var tap in _taps.Values.SelectMany(t => t))
                tap.Dispose();
            _taps.Clear();
        }
    }

    public void Dispose() => Return();

    private void TakeRealTime(object lender, string command, QmpDescriptors descriptors)
    {
        if (descriptors.Count != 1)
            throw new QmpException(command, QmpErrorClass.GenericError, $"{descriptors.Count} descriptors came, and one socket was expected");
        using var descriptor = descriptors.Claim(0);
        try
        {
            lock (_lock)
            {
                _realTime?.Dispose();
                _realTime = new RealTimeLoan(descriptor);
                _lender = lender;
            }
        }
        catch (System.Net.Sockets.SocketException e)
        {
            throw new QmpException(command, QmpErrorClass.GenericError, $"no socket came: {e.Message}");
        }
    }

    private void TakeTap(string command, string netdev, int index, QmpDescriptors descriptors)
    {
        SafeFileHandle[] all = [.. Enumerable.Range(0, descriptors.Count).Select(descriptors.Claim)];
        try
        {
            if (!_taps.TryGetValue(netdev, out var lent))
                _taps[netdev] = lent = new Queue<IsolatedTap>();
            lent.Enqueue(IsolatedTap.FromDescriptors(all[..^1], all[^1], index));
            if (lent.Count > TapsForOneUpdate)
                lent.Dequeue().Dispose();
        }
        catch (SyscallException e)
        {
            foreach (var descriptor in all)
                descriptor.Dispose();
            throw new QmpException(command, QmpErrorClass.GenericError, $"no stand-in for {netdev}: {e.Message}");
        }
    }
}
