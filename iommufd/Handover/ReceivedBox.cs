using System.Collections.Immutable;
using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Handover;

/// <summary>A box at its destination. Each entry can be claimed once; what nobody claims is closed on Dispose, and reported.</summary>
public sealed class ReceivedBox : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, SafeFileHandle> _unclaimed;

    private ReceivedBox(ImmutableArray<HandoverEntry> entries, IEnumerable<SafeFileHandle> descriptors)
    {
        Entries = entries;
        _unclaimed = entries.Zip(descriptors).ToDictionary(pair => pair.First.Name, pair => pair.Second, StringComparer.Ordinal);
    }

    /// <summary>What came, claimed or not.</summary>
    public ImmutableArray<HandoverEntry> Entries { get; }

    /// <summary>What nobody has claimed; after Dispose, what was closed unclaimed.</summary>
    public ImmutableArray<HandoverEntry> Unclaimed
    {
        get
        {
            lock (_gate)
                return [.. Entries.Where(entry => _unclaimed.ContainsKey(entry.Name))];
        }
    }

    /// <summary>Receives a box from one process: what anybody else sends is closed.</summary>
    /// <param name="socket">Connected, seqpacket.</param>
    /// <param name="sender">As which user the sender must have connected.</param>
    /// <param name="ct">Cancels the wait.</param>
    /// <exception cref="UnauthorizedAccessException">Somebody else is at the other end.</exception>
    /// <exception cref="InvalidDataException">It is no box, or its descriptors are not those on its list.</exception>
    public static async Task<ReceivedBox> ReceiveAsync(DescriptorSocket socket, uint sender, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(socket);
        if (socket.Peer.Uid != sender)
            throw new UnauthorizedAccessException($"The box must come from user {sender}; at the other end is process {socket.Peer.Pid} of user {socket.Peer.Uid}.");
        var buffer = new byte[1 << 17];
        using var message = await socket.ReceiveAsync(buffer, ct).ConfigureAwait(false);
        if (message.Bytes == 0)
            throw new EndOfStreamException("The sender is gone; no box came.");
        var manifest = Manifest.Decode(buffer.AsSpan(0, message.Bytes));
        if (manifest.Pid != 0 || manifest.Entries.Length != message.Descriptors.Count)
            throw new InvalidDataException($"A box with {manifest.Entries.Length} entries and {message.Descriptors.Count} descriptors.");
        for (var i = 0; i < manifest.Entries.Length; i++)
            Check(manifest.Entries[i], message.Descriptors[i]!);
        return new ReceivedBox(manifest.Entries, Enumerable.Range(0, manifest.Entries.Length).Select(message.Descriptors.Claim));
    }

    /// <summary>Opens a box that was kept across an exec, or that is still here because the exec failed. Once.</summary>
    /// <param name="number">What <see cref="SealedBox.Keep"/> returned.</param>
    /// <exception cref="InvalidDataException">It is no box, another process's, or its descriptors are not those on its list.</exception>
    public static ReceivedBox Open(int number)
    {
        using var list = new SafeFileHandle(number, ownsHandle: true);
        var info = DescriptorInfo.Of(list);
        if (info.Kind != DescriptorKind.Memfd || !Memfd.Memfd.GetSeals(list).HasFlag(Seals.Write | Seals.Shrink | Seals.Grow))
        {
            list.SetHandleAsInvalid(); // somebody's descriptor, not ours to close
            throw new InvalidDataException($"Descriptor {number} is {info.Path}, not a sealed box.");
        }

        var bytes = new byte[RandomAccess.GetLength(list)];
        RandomAccess.Read(list, bytes, 0);
        var manifest = Manifest.Decode(bytes);
        if (manifest.Pid != Environment.ProcessId || manifest.StartTime != ProcFs.StartTimeTicks(Environment.ProcessId))
            throw new InvalidDataException($"The box was kept for process {manifest.Pid}, which this is not.");
        var descriptors = manifest.Numbers.Select(one => new SafeFileHandle(one, ownsHandle: true)).ToList();
        try
        {
            for (var i = 0; i < descriptors.Count; i++)
            {
                LibC.SetCloseOnExec(descriptors[i], enabled: true);
                Check(manifest.Entries[i], descriptors[i]);
            }

            return new ReceivedBox(manifest.Entries, descriptors);
        }
        catch
        {
            descriptors.ForEach(one => one.Dispose());
            throw;
        }
    }

    /// <summary>Takes an entry out.</summary>
    /// <returns>Its descriptor, which the caller owns.</returns>
    /// <exception cref="InvalidOperationException">There is none of this name, or it was claimed already.</exception>
    public SafeFileHandle Claim(string name)
    {
        lock (_gate)
        {
            return _unclaimed.Remove(name, out var descriptor)
                ? descriptor
                : throw new InvalidOperationException(Entries.Any(entry => entry.Name == name) ? $"{name} was claimed already." : $"There is no {name} in the box.");
        }
    }

    /// <summary>Closes what nobody has claimed.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            foreach (var descriptor in _unclaimed.Values)
                descriptor.Dispose();
        }
    }

    private static void Check(HandoverEntry entry, SafeFileHandle descriptor)
    {
        var info = DescriptorInfo.Of(descriptor);
        if (info.Kind != entry.Kind || FileIdentity.Of(info) != entry.File)
            throw new InvalidDataException($"{entry} is another file on arrival: {info.Path}.");
    }
}
