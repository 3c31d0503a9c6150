using System.Globalization;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Duplicates of what a VMM's program passes on to the next one by exec, so that it does not end with a next program that fails. Owns them.</summary>
/// <remarks>
/// Those are the memfds of its memory, guest RAM aside, which the supervisor holds anyway; its passed-through devices, their iommufd and the
/// eventfds of their interrupts; and a memfd with the cpr state, that names them by number (<c>migration/cpr-exec.c</c>). With the same files at
/// the same numbers another process can load what the failed one should have, and no device is reset meanwhile.
/// </remarks>
internal sealed class ProgramSpares : IDisposable
{
    /// <summary>Where QEMU says to its successor which descriptor holds the cpr state.</summary>
    public const string StateVariable = "QEMU_CPR_EXEC_STATE";

    private static readonly DescriptorKind[] Kinds = [DescriptorKind.Memfd, DescriptorKind.Iommufd, DescriptorKind.VfioDevice, DescriptorKind.EventFd];

    private const string StateName = $"/memfd:{StateVariable}";

    private readonly PidFd _process;
    private readonly List<InheritedDescriptor> _files = [];
    private readonly HashSet<int> _oldStates;
    private readonly Dictionary<string, string> _environment;
    private InheritedDescriptor? _state;

    private ProgramSpares(PidFd process, IReadOnlyCollection<int> held)
    {
        _process = process;
        _environment = ProcessIdentity.EnvironmentOf(process.Pid).ToDictionary(StringComparer.Ordinal);
        _oldStates = [.. States().Select(s => s.Number)];
        try
        {
            foreach (var spare in ProcFs.Descriptors(process.Pid).Where(d => d.Info.CloseOnExec && Kinds.Contains(d.Info.Kind) && !held.Contains(d.Number)))
                _files.Add(new InheritedDescriptor(process.GetDescriptor(spare.Number), spare.Number));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Whether all is there that another process needs.</summary>
    public bool AreComplete => _state is not null;

    /// <summary>For the process that takes the guest over.</summary>
    public IReadOnlyList<InheritedDescriptor> Descriptors => _state is { } state ? [.. _files, state] : _files;

    /// <summary>Its environment.</summary>
    public IReadOnlyDictionary<string, string> Environment => _state is { } state
        ? new Dictionary<string, string>(_environment, StringComparer.Ordinal) { [StateVariable] = state.Number.ToString(CultureInfo.InvariantCulture) }
        : _environment;

    /// <summary>Takes duplicates from the running program.</summary>
    /// <param name="process">Its process.</param>
    /// <param name="held">Numbers of what the supervisor has already.</param>
    public static ProgramSpares Take(PidFd process, IReadOnlyCollection<int> held) => new(process, held);

    /// <summary>Takes the cpr state, which is there while the program waits for its replacement.</summary>
    /// <exception cref="UpdateException">It is not: without it no other process could have the guest.</exception>
    public void TakeState()
    {
        // The one that QEMU leaves open over the exec; those of earlier ones it leaves open, too.
        var state = States().FirstOrDefault(s => !s.Info.CloseOnExec && !_oldStates.Contains(s.Number))
            ?? throw new UpdateException("no-spares", $"pid {_process.Pid} has no cpr state that it would pass on, so the guest could not be brought back from a new program that fails", "use engine transfer");
        _state = new InheritedDescriptor(_process.GetDescriptor(state.Number), state.Number);
    }

    public void Dispose()
    {
        foreach (var descriptor in Descriptors)
            descriptor.Handle.Dispose();
    }

    private IEnumerable<DescriptorEntry> States() =>
        ProcFs.Descriptors(_process.Pid).Where(d => d.Info.Path.StartsWith(StateName, StringComparison.Ordinal));
}
