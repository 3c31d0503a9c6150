using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Networking;

/// <summary>Takes the tap devices from a VMM while its guest still runs, so that no frame can end with it.</summary>
/// <remarks>
/// A VMM that has stopped its guest reads one more frame of each queue before it asks whether anybody can take it. So it is given, shortly before
/// the pause, a tap device in a namespace of its own, on which nothing comes: what comes for the guest waits in the real device. What the guest
/// sends until it is stopped is taken out there and written to the real one. Whatever the VMM asks of a tap device this one can do.
/// </remarks>
internal sealed class TapDiversion : IDisposable
{
    private const string Mark = "cprsharp-diversion";

    private readonly List<Detour> _detours;
    private readonly byte[] _frame = new byte[IsolatedTap.LongestFrame];
    private readonly PollSet _set = new();
    private readonly TapOutlet _outlet = new();
    private Thread? _thread;
    private volatile bool _ending;
    private Exception? _trouble;

    private TapDiversion(List<Detour> detours) => _detours = detours;

    /// <summary>Whether the VMM has been given the stand-ins.</summary>
    public bool IsBegun => _thread is not null;

    /// <summary>Frames of the guest that could not be passed on; known when it has ended.</summary>
    public long Lost { get; private set; }

    /// <summary>Makes the stand-ins and passes them to the VMM, which has them beside the real ones then.</summary>
    /// <exception cref="UpdateException">A missing privilege.</exception>
    public static async Task<TapDiversion> PrepareAsync(
        IEnumerable<(TapDescriptor Wanted, SafeFileHandle Queue)> taps, Loans loans, Vmm vmm, CancellationToken cancellationToken)
    {
        var detours = new List<Detour>();
        var diversion = new TapDiversion(detours);
        try
        {
            foreach (var netdev in taps.GroupBy(t => t.Wanted.Netdev, StringComparer.Ordinal))
            {
                var real = netdev.ToArray();
                var tap = TapStandIns.Make(netdev.Key, real.Length, real[0].Queue, loans);
                var header = TapSettings.HeaderBytesOf(real[0].Queue);
                TapSettings.SetHeaderBytes(tap.Queues[0], header);
                var numbers = new List<int>();
                detours.Add(new Detour(tap, real, numbers, header));
                foreach (var queue in tap.Queues)
                {
                    var added = await vmm.Qmp.ExecuteAsync(
                        "add-fd", new JsonObject { ["opaque"] = Mark }, new QmpCommandOptions { Descriptors = [queue] }, cancellationToken);
                    numbers.Add(added.GetProperty("fd").GetInt32());

                    // QEMU makes what it receives wait (tcp_chr_recv in chardev/char-socket.c), and would do so in a read of its tap device.
                    Descriptor.SetNonBlocking(queue);
                }
            }

            return diversion;
        }
        catch (Exception e)
        {
            diversion.Dispose();
            if (e is IOException and not QmpConnectionException)
                throw TapStandIns.Refusal(e);
            throw;
        }
    }

    /// <summary>The VMM's taps become the stand-ins.</summary>
    /// <exception cref="UpdateException">They cannot be exchanged.</exception>
    public void Begin(PidFd vmm)
    {
        _thread = new Thread(Run, maxStackSize: 256 << 10) { IsBackground = true, Name = "taps" };
        _thread.Start();
        var changes = new List<(int From, int To)>();
        foreach (var detour in _detours)
        {
            for (var queue = 0; queue < detour.Real.Length; queue++)
                changes.Add((detour.Numbers[queue], detour.Real[queue].Wanted.Number));
        }

        TapStandIns.Exchange(vmm, changes);
    }

    /// <summary>The VMM sends nothing any more: what it has sent is passed on to the last frame.</summary>
    /// <exception cref="UpdateException">A frame could not be passed on.</exception>
    public void End()
    {
        if (_thread is not null && !_ending)
        {
            StopThread();
            Lost = _outlet.Refused + _detours.Sum(d => d.StandIn.TakeDropped());
        }

        if (_trouble is { } e)
            throw new UpdateException("tap-handover", $"what the guest sent could not be passed on to its tap device: {e.Message}", "see that the device is up", e);
    }

    /// <summary>Whoever waits for a stand-in finds something there, and turns to the real one.</summary>
    public void Wake() => _detours.ForEach(d => d.StandIn.Wake());

    /// <summary>Takes the stand-ins out of a VMM that keeps the guest, also those of a supervisor that was lost.</summary>
    public static async Task RemoveAsync(Vmm vmm, CancellationToken cancellationToken)
    {
        var sets = await vmm.ExecuteAsync("query-fdsets", cancellationToken);
        foreach (var set in sets.EnumerateArray())
        {
            if (set.GetProperty("fds").EnumerateArray().Any(f => f.TryGetProperty("opaque", out var opaque) && opaque.ValueKind == JsonValueKind.String && opaque.GetString() == Mark))
                await vmm.ExecuteAsync("remove-fd", new JsonObject { ["fdset-id"] = set.GetProperty("fdset-id").GetInt64() }, cancellationToken);
        }
    }

    public void Dispose()
    {
        StopThread();
        _set.Dispose();
        _outlet.Dispose();
        _detours.ForEach(d => d.StandIn.Dispose());
    }

    private void StopThread()
    {
        _ending = true;
        _outlet.Hurry();
        _set.Wake();
        _thread?.Join();
    }

    private void Run()
    {
        try
        {
            while (!_ending)
            {
                _set.Clear();
                foreach (var detour in _detours)
                    _set.Add(detour.StandIn.Packets, Readiness.Readable);
                _set.Wait(-1);
                PassOn();
            }

            PassOn();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            _trouble = e;
        }
    }

    private void PassOn()
    {
        foreach (var detour in _detours)
        {
            while (detour.StandIn.Receive(_frame, detour.HeaderBytes) is > 0 and var length)
                _outlet.Send(detour.Real[0].Queue, _frame.AsSpan(0, length));
        }
    }

    private sealed record Detour(IsolatedTap StandIn, (TapDescriptor Wanted, SafeFileHandle Queue)[] Real, List<int> Numbers, int HeaderBytes);
}
