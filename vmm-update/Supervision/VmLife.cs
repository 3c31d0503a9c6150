using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Qemu;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>A VM to be started, and how it lives with its supervisor.</summary>
/// <param name="Spec">The VM.</param>
internal sealed record VmLife(VmSpec Spec)
{
    /// <summary>Whether it has no terminal.</summary>
    public bool Detached { get; init; }

    /// <summary>Whether its VMM is killed when the supervisor ends, however that ends.</summary>
    public bool EndsWithSupervisor { get; init; }

    /// <summary>Descriptors that our caller passed for QEMU without naming them on its command line, for the first VMM alone: libvirt names a
    /// saved guest's file (<c>fd:N</c>) over QMP. They stay open here, too.</summary>
    public IReadOnlyList<int> Unnamed { get; init; } = [];

    /// <summary>The unnamed ones at their own numbers, where nothing else is.</summary>
    public IEnumerable<InheritedDescriptor> PassedOn(IReadOnlyList<InheritedDescriptor> others) => Unnamed
        .Except([.. others.Select(o => o.Number), VmmLauncher.MonitorDescriptor])
        .Select(number => new InheritedDescriptor(new SafeFileHandle(number, ownsHandle: false), number));
}
