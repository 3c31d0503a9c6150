namespace CprSharp.Memfd.Interop;

/// <summary>cpu_set_t of any length: bit N of the little-endian words is CPU N.</summary>
internal static class CpuMask
{
    private const int HighestCpu = 1 << 18;

    internal static IReadOnlyList<int> ToCpus(ReadOnlySpan<byte> mask)
    {
        var cpus = new List<int>();
        for (var cpu = 0; cpu < mask.Length * 8; cpu++)
        {
            if ((mask[cpu / 8] & (1 << (cpu % 8))) != 0)
                cpus.Add(cpu);
        }

        return cpus;
    }

    /// <summary>Whole 8-byte words, as the kernel wants them; at least one.</summary>
    internal static byte[] FromCpus(IReadOnlyCollection<int> cpus)
    {
        if (cpus.Count == 0)
            throw new ArgumentException("At least one CPU is needed.", nameof(cpus));
        ArgumentOutOfRangeException.ThrowIfNegative(cpus.Min(), nameof(cpus));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(cpus.Max(), HighestCpu, nameof(cpus));
        var mask = new byte[(cpus.Max() / 64 + 1) * 8];
        foreach (var cpu in cpus)
            mask[cpu / 8] |= (byte)(1 << (cpu % 8));
        return mask;
    }
}
