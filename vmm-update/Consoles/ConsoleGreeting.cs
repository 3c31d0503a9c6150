using CprSharp.VmmUpdate.Replacement;

namespace CprSharp.VmmUpdate.Consoles;

/// <summary>Takes away what a VMM says to every new connection, where the client has heard it from the VMM before.</summary>
/// <param name="plug">So many bytes before it are ours (<see cref="ConsoleLink"/>).</param>
/// <param name="telnet">It begins with telnet's negotiation (tcp_chr_telnet_init in chardev/char-socket.c).</param>
/// <param name="monitor">It greets with its version and a prompt (monitor_event in monitor/hmp.c).</param>
internal sealed class ConsoleGreeting(int plug, bool telnet, bool monitor)
{
    private const int TelnetBytes = 12;

    /// <summary>A greeting is shorter; what is longer is something else, and passed on from here.</summary>
    private const int Longest = 1024;

    private int _skipped = plug + (telnet ? TelnetBytes : 0);
    private int _monitor = monitor ? Longest : 0;
    private int _matched;

    public static ConsoleGreeting Restore(GreetingState state) =>
        new(0, telnet: false, monitor: false) { _skipped = state.Skipped, _monitor = state.Monitor, _matched = state.Matched };

    public GreetingState Save() => new(_skipped, _monitor, _matched);

    private static ReadOnlySpan<byte> Prompt => "(qemu) "u8;

    /// <summary>What remains of bytes from the VMM.</summary>
    public ReadOnlySpan<byte> Strip(ReadOnlySpan<byte> bytes)
    {
        var skipped = Math.Min(_skipped, bytes.Length);
        _skipped -= skipped;
        bytes = bytes[skipped..];
        while (_monitor > 0 && !bytes.IsEmpty)
        {
            _matched = bytes[0] == Prompt[_matched] ? _matched + 1 : bytes[0] == Prompt[0] ? 1 : 0;
            _monitor = _matched == Prompt.Length ? 0 : _monitor - 1;
            bytes = bytes[1..];
        }

        return bytes;
    }
}
