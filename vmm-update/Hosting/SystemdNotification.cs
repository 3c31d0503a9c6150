using System.Collections;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using CprSharp.Memfd;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Tells systemd how a supervisor fares, when it was started by a unit of <c>Type=notify</c> (sd_notify(3)).</summary>
internal sealed class SystemdNotification : IDisposable
{
    private readonly UnixDatagram _manager; // which does not wait: a manager that does not read must not hold up an update
    private Timer? _watchdog;

    private SystemdNotification(UnixDatagram manager) => _manager = manager;

    /// <summary>Null when nobody wants to know.</summary>
    public static SystemdNotification? FromEnvironment()
    {
        if (Environment.GetEnvironmentVariable("NOTIFY_SOCKET") is not ['/' or '@', ..] address)
            return null;
        try
        {
            return new SystemdNotification(new UnixDatagram(address.StartsWith('@') ? "\0" + address[1..] : address));
        }
        catch (SocketException)
        {
            return null; // a VM does not depend on who watches it
        }
    }

    /// <summary>The VM is served. From here on the watchdog, if the unit has one, is fed by the thread pool that does all the work.</summary>
    public void Ready(string status)
    {
        Send($"READY=1\nSTATUS={status}\nMAINPID={Environment.ProcessId}");
        if (WatchdogInterval() is { } interval)
            _watchdog = new Timer(_ => Send("WATCHDOG=1"), null, TimeSpan.Zero, interval / 2);
    }

    /// <summary>Another process of the unit serves the VM: its main one from now on.</summary>
    public void HandOver(int pid, string status) => Send($"READY=1\nSTATUS={status}\nMAINPID={pid}");

    public void Status(string status) => Send($"STATUS={status}");

    public void Stopping() => Send("STOPPING=1");

    /// <summary>Has systemd keep a descriptor for whoever it starts in our place (FDSTORE=1): see <see cref="StoredDescriptors"/>. One that it has it does not take twice.</summary>
    /// <remarks>Without FDPOLL=0 it would drop a pseudoterminal that nobody has open, which reports a hang-up.</remarks>
    public void Store(string name, SafeHandle descriptor) => Try(m => m.Send(Encoding.UTF8.GetBytes($"FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), descriptor));

    /// <summary>The environment of whoever is the unit's main process after this one, and has its watchdog to feed.</summary>
    public static IReadOnlyDictionary<string, string> ForSuccessor() => Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
        .Where(v => v.Key is not ("WATCHDOG_PID" or StoredDescriptors.Process or StoredDescriptors.Count or StoredDescriptors.Names))
        .ToDictionary(v => (string)v.Key, v => (string?)v.Value ?? "", StringComparer.Ordinal);

    public void Dispose()
    {
        _watchdog?.Dispose();
        _manager.Dispose();
    }

    private static TimeSpan? WatchdogInterval() =>
        Number("WATCHDOG_USEC") is { } microseconds and > 0 && (Number("WATCHDOG_PID") ?? Environment.ProcessId) == Environment.ProcessId
            ? TimeSpan.FromMicroseconds(microseconds)
            : null;

    /// <summary>A number that systemd, or whoever does as it does, has set for us; null for none.</summary>
    public static long? Number(string variable) =>
        long.TryParse(Environment.GetEnvironmentVariable(variable), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    private void Send(string message) => Try(m => m.Send(Encoding.UTF8.GetBytes(message)));

    private void Try(Action<UnixDatagram> send)
    {
        try
        {
            send(_manager);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // As above.
        }
    }
}
