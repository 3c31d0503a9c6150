namespace CprSharp.VmmUpdate.Consoles;

/// <summary>The last bytes that a VMM was given, where what it makes of them lives in its process and does not migrate.</summary>
internal sealed class SentInput(bool telnet, bool monitor)
{
    /// <summary>A monitor's line has at most 4095 bytes (READLINE_CMD_BUF_SIZE).</summary>
    private const int Kept = 8192;

    private const byte Iac = 0xff;

    private readonly List<byte> _last = [];

    public void Sent(ReadOnlySpan<byte> bytes)
    {
        if (!telnet && !monitor)
            return;
        _last.AddRange(bytes);
        if (_last.Count > Kept)
            _last.RemoveRange(0, _last.Count - Kept);
    }

    public byte[] Save() => [.. _last];

    public void Restore(ReadOnlySpan<byte> bytes) => _last.AddRange(bytes);

    public void Clear() => _last.Clear();

    /// <summary>The VMM has not read the last of them.</summary>
    public void TakenBack(int count) => _last.RemoveRange(Math.Max(0, _last.Count - count), Math.Min(count, _last.Count));

    /// <summary>What the next VMM has to be given again: a monitor's line that has begun, else a telnet command that has begun.</summary>
    public byte[] ToRepeat()
    {
        if (monitor)
            return [.. _last[(_last.FindLastIndex(b => b is (byte)'\n' or (byte)'\r') + 1)..]];
        return telnet ? BegunCommand() : [];
    }

    /// <summary>IAC and two bytes, or IAC IAC, as QEMU reads them.</summary>
    private byte[] BegunCommand()
    {
        var begun = -1;
        for (var i = 0; i < _last.Count; i++)
        {
            if (begun < 0)
                begun = _last[i] == Iac ? i : -1;
            else if ((i == begun + 1 && _last[i] is Iac) || i == begun + 2)
                begun = -1;
        }

        return begun < 0 ? [] : [.. _last[begun..]];
    }
}
