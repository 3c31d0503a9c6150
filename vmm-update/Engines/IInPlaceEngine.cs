using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Engines;

/// <summary>Replaces the program of the VMM's process: there is never a second process, and the first program is gone before the next one has the guest.</summary>
internal interface IInPlaceEngine : IEngine
{
    /// <summary>Sets the running program up for its replacement, while the guest runs.</summary>
    /// <param name="vmm">The running program.</param>
    /// <param name="inspection">Its VM.</param>
    /// <param name="command">What the process is to become: program and arguments.</param>
    /// <param name="noteTakenOut">Writes down, before it is done, what is taken out of the devices' address spaces until the guest has settled.</param>
    /// <param name="cancellationToken">Cancels.</param>
    Task PrepareAsync(
        Vmm vmm, VmInspection inspection, IReadOnlyList<string> command, Action<IReadOnlyList<TakenOutBar>> noteTakenOut, CancellationToken cancellationToken);

    /// <summary>Asks for it. The program stops the guest, writes down what its successor inherits, and waits for <see cref="ContinueAsync"/> (<c>pre-switchover</c>).</summary>
    Task BeginAsync(Vmm vmm, string stateFile, CancellationToken cancellationToken);

    /// <summary>From here on the program saves its state and is replaced, all by itself.</summary>
    Task ContinueAsync(Vmm vmm, CancellationToken cancellationToken);

    /// <summary>Makes a program that waits for its state load it. It has when this returns.</summary>
    Task LoadAsync(Vmm vmm, string stateFile, CancellationToken cancellationToken);
}
