using System.Globalization;

namespace CprSharp.Iommufd;

/// <summary>An interval of I/O virtual addresses, both ends included, so that it can reach up to the last address of all.</summary>
/// <param name="Start">First address.</param>
/// <param name="Last">Last address; not below <paramref name="Start"/>.</param>
public readonly record struct IovaRange(ulong Start, ulong Last)
{
    /// <summary>Every address.</summary>
    public static IovaRange All => new(0, ulong.MaxValue);

    /// <summary>Bytes. 0 stands for 2^64, which only <see cref="All"/> has.</summary>
    public ulong Length => unchecked(Last - Start + 1);

    /// <summary>The range of so many bytes.</summary>
    /// <param name="start">First address.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">No bytes, or more than there are addresses above the start.</exception>
    public static IovaRange Of(ulong start, ulong length)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length - 1, ulong.MaxValue - start, nameof(length));
        return new IovaRange(start, start + (length - 1));
    }

    /// <summary>Whether the address is in it.</summary>
    public bool Contains(ulong address) => address >= Start && address <= Last;

    /// <summary>Whether the other range is wholly in it.</summary>
    public bool Contains(IovaRange other) => other.Start >= Start && other.Last <= Last;

    /// <summary>Whether they share an address.</summary>
    public bool Overlaps(IovaRange other) => Start <= other.Last && other.Start <= Last;

    /// <summary>What both have; null when that is nothing.</summary>
    public IovaRange? Intersect(IovaRange other) =>
        Overlaps(other) ? new IovaRange(Math.Max(Start, other.Start), Math.Min(Last, other.Last)) : null;

    /// <summary>The whole pages (4 KiB) in it, which is what can be mapped of it; null when there is none.</summary>
    public IovaRange? WholePages()
    {
        const ulong withinPage = 4096 - 1;
        if (Last < withinPage || Start > ulong.MaxValue - withinPage)
            return null;
        var start = (Start + withinPage) & ~withinPage;
        var last = unchecked(((Last + 1) & ~withinPage) - 1);
        return last > start ? new IovaRange(start, last) : null;
    }

    /// <summary>For example <c>0x1000000-0x1ffffff</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"0x{Start:x}-0x{Last:x}");
}
