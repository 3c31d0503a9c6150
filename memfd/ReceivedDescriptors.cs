using System.Collections;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Memfd;

/// <summary>Descriptors that came with a message. Each can be claimed exactly once; what nobody claims is closed on Dispose.</summary>
/// <remarks>Enumerating shows them for inspection without claiming: null stands where one has been claimed.</remarks>
public sealed class ReceivedDescriptors : IReadOnlyList<SafeFileHandle?>, IDisposable
{
    private readonly SafeFileHandle?[] _descriptors;

    internal ReceivedDescriptors(IReadOnlyCollection<SafeFileHandle> descriptors) => _descriptors = [.. descriptors];

    /// <summary>How many came, claimed or not.</summary>
    public int Count => _descriptors.Length;

    /// <summary>The descriptor for inspection, still owned by this collection; null once claimed.</summary>
    public SafeFileHandle? this[int index] => _descriptors[index];

    /// <summary>Hands the ownership of one descriptor over.</summary>
    /// <exception cref="InvalidOperationException">It was claimed before, or closed with the collection.</exception>
    public SafeFileHandle Claim(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Count);
        return Interlocked.Exchange(ref _descriptors[index], null)
            ?? throw new InvalidOperationException($"Descriptor {index} of {Count} was claimed or closed already.");
    }

    /// <summary>Closes what has not been claimed.</summary>
    public void Dispose()
    {
        for (var i = 0; i < Count; i++)
            Interlocked.Exchange(ref _descriptors[i], null)?.Dispose();
    }

    /// <inheritdoc/>
    public IEnumerator<SafeFileHandle?> GetEnumerator() => ((IEnumerable<SafeFileHandle?>)_descriptors).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>What one receive gave.</summary>
/// <param name="Bytes">Bytes put into the buffer; 0 at the end of the stream.</param>
/// <param name="Descriptors">The descriptors that came with these bytes.</param>
public readonly record struct DescriptorMessage(int Bytes, ReceivedDescriptors Descriptors) : IDisposable
{
    /// <summary>Closes the descriptors that nobody claimed.</summary>
    public void Dispose() => Descriptors.Dispose();
}
