using System.Collections.Immutable;
using CprSharp.Iommufd.Model;

namespace CprSharp.Iommufd.Inventory;

/// <summary>Holds a picture against the kernel: trust, but verify.</summary>
public static class Verifier
{
    /// <summary>Names everything in which the kernel differs from the picture, as far as the kernel lets itself be looked at.</summary>
    /// <param name="context">The context, or a duplicate of another process's.</param>
    /// <param name="picture">What should be in it.</param>
    public static ImmutableArray<Difference> Verify(IommufdContext context, AddressSpaces picture)
    {
        ArgumentNullException.ThrowIfNull(picture);
        using var probe = new ContextProbe(context);
        var observed = probe.FindIoases().ToDictionary(ioas => ioas, ioas => Observe(probe, picture, ioas));
        return Differences.Between(picture, observed);
    }

    /// <summary>What is mapped in every address space of the context.</summary>
    /// <param name="context">The context, or a duplicate of another process's.</param>
    public static IReadOnlyDictionary<IoasId, IReadOnlyList<ObservedExtent>> Observe(IommufdContext context)
    {
        using var probe = new ContextProbe(context);
        return probe.FindIoases().ToDictionary(ioas => ioas, ioas => probe.Observe(ioas));
    }

    private static IReadOnlyList<ObservedExtent> Observe(ContextProbe probe, AddressSpaces picture, IoasId ioas) => probe.Observe(
        ioas, picture.Ioases.TryGetValue(ioas.Value, out var wanted) ? wanted.Areas.Select(area => area.Range.Start) : null);
}
