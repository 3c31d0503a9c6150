using System.Collections;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Qmp;

/// <summary>
/// Descriptors that came with a command. They are closed when the handler has returned, except those that it claimed. Indexing
/// lends a handle, for example to send it on.
/// </summary>
public sealed class QmpDescriptors : IReadOnlyList<SafeFileHandle>, IDisposable
{
    private readonly SafeFileHandle?[] _handles;
    private readonly Lock _gate = new();

    internal QmpDescriptors(IEnumerable<SafeFileHandle> handles) => _handles = [.. handles];

    /// <inheritdoc/>
    public int Count => _handles.Length;

    /// <summary>Lends a handle; it stays owned by this collection.</summary>
    /// <exception cref="InvalidOperationException">It was claimed, or closed with the collection.</exception>
    public SafeFileHandle this[int index]
    {
        get
        {
            lock (_gate) return At(index);
        }
    }

    /// <summary>Takes a handle out; the caller owns it and closes it. Each can be taken once.</summary>
    /// <exception cref="InvalidOperationException">It was claimed before, or closed with the collection.</exception>
    public SafeFileHandle Claim(int index)
    {
        lock (_gate)
        {
            var handle = At(index);
            _handles[index] = null;
            return handle;
        }
    }

    /// <summary>Closes what was not claimed.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            foreach (var handle in _handles) handle?.Dispose();
            Array.Clear(_handles);
        }
    }

    /// <inheritdoc/>
    public IEnumerator<SafeFileHandle> GetEnumerator()
    {
        for (var i = 0; i < Count; i++) yield return this[i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private SafeFileHandle At(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, _handles.Length);
        return _handles[index] ?? throw new InvalidOperationException($"Descriptor {index} was claimed or closed already.");
    }
}
