using System.Runtime.InteropServices;

namespace CprSharp.Qmp;

/// <summary>Settings of one command.</summary>
public sealed record QmpCommandOptions
{
    /// <summary>Most descriptors that QEMU takes with one message (io/channel-socket.c, SOCKET_MAX_FDS).</summary>
    public const int MaxDescriptors = 16;

    /// <summary>
    /// Execute out-of-band (<c>exec-oob</c>): the command overtakes queued in-band commands. Only when the connection has negotiated it
    /// (<see cref="QmpClient.OutOfBandEnabled"/>), and only commands whose schema says <c>allow-oob</c>.
    /// </summary>
    public bool OutOfBand { get; init; }

    /// <summary>Deadline from the call to the reply; null means <see cref="QmpClientOptions.CommandTimeout"/>, <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> none.</summary>
    public TimeSpan? Timeout { get; init; }

    /// <summary>
    /// Descriptors to send along (SCM_RIGHTS), as <c>getfd</c> and <c>add-fd</c> expect; at most <see cref="MaxDescriptors"/>. They stay the
    /// caller's: the VMM receives duplicates. Because QEMU keeps only the descriptors that arrived last, a command with
    /// descriptors waits until an earlier one has been answered. Cannot be combined with <see cref="OutOfBand"/>.
    /// </summary>
    public IReadOnlyList<SafeHandle>? Descriptors { get; init; }
}
