using System.Collections.Immutable;
using System.Runtime.InteropServices;
using CprSharp.Iommufd.Interop;
using CprSharp.Iommufd.Model;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.Iommufd.Handover;

/// <summary>
/// Descriptors with their meaning, for another process or for this one after an exec. It holds duplicates: the caller's stay open, so
/// that a device is not reset when the hand-over fails. Fill it, then <see cref="Seal"/> it; from then on nothing comes out of it but at its destination.
/// </summary>
public sealed class HandoverBox : IDisposable
{
    private readonly List<(HandoverEntry Entry, SafeFileHandle Descriptor)> _content = [];
    private bool _sealed;

    /// <summary>What is in it.</summary>
    public ImmutableArray<HandoverEntry> Entries => [.. _content.Select(one => one.Entry)];

    /// <summary>Registers a descriptor.</summary>
    /// <param name="name">Unique in this box.</param>
    /// <param name="meaning">What it means.</param>
    /// <param name="descriptor">Stays the caller's.</param>
    /// <exception cref="HandoverRefusedException">It can never be handed over; the message says what to do instead.</exception>
    /// <exception cref="ArgumentException">The name is taken, or the descriptor is not what it is said to mean.</exception>
    /// <exception cref="InvalidOperationException">The box is sealed, or full.</exception>
    public void Add(string name, HandoverMeaning meaning, SafeHandle descriptor)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (_sealed)
            throw new InvalidOperationException("The box is sealed.");
        if (_content.Count == DescriptorSocket.MaxDescriptors)
            throw new InvalidOperationException($"A box takes {DescriptorSocket.MaxDescriptors} descriptors: no more go with one message.");
        if (_content.Exists(one => one.Entry.Name == name))
            throw new ArgumentException($"The box has a {name} already.", nameof(name));
        var info = DescriptorInfo.Of(descriptor);
        if (HandoverRules.Check(info.Kind, info.Path) is { } reason)
            throw new HandoverRefusedException(name, info.Path, reason);
        if (!Fits(meaning, info.Kind))
            throw new ArgumentException($"{info.Path} is no {meaning}.", nameof(meaning));
        _content.Add((new HandoverEntry(name, meaning, info.Kind, FileIdentity.Of(info)), Descriptor.Duplicate(descriptor)));
    }

    /// <summary>Closes the box. It can then be sent, or kept, once.</summary>
    public SealedBox Seal()
    {
        if (_sealed)
            throw new InvalidOperationException("The box is sealed.");
        _sealed = true;
        return new SealedBox([.. _content]);
    }

    /// <summary>Closes its descriptors, unless it was sealed.</summary>
    public void Dispose()
    {
        if (_sealed)
            return;
        _sealed = true;
        foreach (var (_, descriptor) in _content)
            descriptor.Dispose();
    }

    private static bool Fits(HandoverMeaning meaning, DescriptorKind kind) => meaning switch
    {
        HandoverMeaning.Context => kind is DescriptorKind.Iommufd or DescriptorKind.VfioContainer,
        HandoverMeaning.Device => kind is DescriptorKind.VfioDevice,
        HandoverMeaning.Memory => kind is DescriptorKind.Memfd or DescriptorKind.ShmemFile or DescriptorKind.HugetlbFile,
        HandoverMeaning.EventFd => kind is DescriptorKind.EventFd,
        _ => true,
    };
}

/// <summary>A box on its way. Its descriptors cannot be got at any more.</summary>
public sealed class SealedBox : IDisposable
{
    private ImmutableArray<(HandoverEntry Entry, SafeFileHandle Descriptor)> _content;

    internal SealedBox(ImmutableArray<(HandoverEntry Entry, SafeFileHandle Descriptor)> content)
    {
        _content = content;
        Entries = [.. content.Select(one => one.Entry)];
    }

    /// <summary>What is, or was, in it.</summary>
    public ImmutableArray<HandoverEntry> Entries { get; }

    /// <summary>Sends it, once, to one process: whoever else is at the other end gets nothing.</summary>
    /// <param name="socket">Connected, seqpacket: the box is one message.</param>
    /// <param name="recipient">Who must be at the other end; a process that has exited is not.</param>
    /// <param name="user">As which real user it must run.</param>
    /// <param name="ct">Cancels before anything is sent.</param>
    /// <exception cref="UnauthorizedAccessException">Somebody else is at the other end. The box can still be sent.</exception>
    public async Task SendAsync(DescriptorSocket socket, PidFd recipient, uint user, CancellationToken ct = default)
    {
        ArgumentNullException.ThrowIfNull(socket);
        ArgumentNullException.ThrowIfNull(recipient);
        using (var peer = socket.OpenPeerPidFd())
        {
            var credentials = socket.Peer;
            if (credentials.Pid != recipient.Pid || credentials.Uid != user || recipient.HasExited || peer.HasExited)
                throw new UnauthorizedAccessException($"The box is for process {recipient.Pid} of user {user}; at the other end is process {credentials.Pid} of user {credentials.Uid}.");
        }

        var content = Take();
        try
        {
            await socket.SendAsync(new Manifest(0, 0, Entries, []).Encode(), [.. content.Select(one => one.Descriptor)], ct).ConfigureAwait(false);
        }
        finally
        {
            foreach (var (_, descriptor) in content)
                descriptor.Dispose();
        }
    }

    /// <summary>
    /// Keeps it across an exec of this process, once: from now on its descriptors are inherited, so no other child may be started
    /// any more. When the exec fails, <see cref="ReceivedBox.Open"/> gets them back.
    /// </summary>
    /// <returns>The number of the descriptor that leads to the rest, for the new program's command line or environment.</returns>
    public int Keep()
    {
        var content = Take();
        var manifest = new Manifest(
            Environment.ProcessId,
            ProcFs.StartTimeTicks(Environment.ProcessId),
            Entries,
            [.. content.Select(one => (int)one.Descriptor.DangerousGetHandle())]).Encode();
        var list = Memfd.Memfd.Create("cprsharp-handover", manifest.Length);
        RandomAccess.Write(list, manifest, 0);
        Memfd.Memfd.AddSeals(list, Seals.Write | Seals.Shrink | Seals.Grow | Seals.Seal);
        var number = (int)list.DangerousGetHandle();
        foreach (var descriptor in content.Select(one => one.Descriptor).Append(list))
        {
            LibC.SetCloseOnExec(descriptor, enabled: false);
            descriptor.SetHandleAsInvalid(); // the numbers belong to the next program now
        }

        return number;
    }

    /// <summary>Closes the descriptors of a box that was neither sent nor kept.</summary>
    public void Dispose()
    {
        var content = _content;
        _content = [];
        foreach (var (_, descriptor) in content)
            descriptor.Dispose();
    }

    private ImmutableArray<(HandoverEntry Entry, SafeFileHandle Descriptor)> Take()
    {
        var content = _content;
        _content = [];
        return content.IsEmpty && !Entries.IsEmpty ? throw new InvalidOperationException("The box was sent, kept or disposed already.") : content;
    }
}
