using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Qemu;
using Microsoft.Extensions.Logging;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Keeps the VM's command line true to the machine: what clients plug, unplug and change by QMP goes into the record.</summary>
internal sealed class MachineEdits(VmSupervisor supervisor, ILogger logger)
{
    private readonly Lock _lock = new();

    /// <summary>Notes a command that the VMM has carried out.</summary>
    public async ValueTask NoteAsync(string command, JsonElement arguments, Vmm vmm, CancellationToken cancellationToken)
    {
        if (!CommandKinds.MayChange(command) || command == "device_del")
            return; // DEVICE_DELETED says when the guest has let a device go

        var pinned = command == "device_add" && arguments.TryGetProperty("id", out var id)
            ? await PlaceOfAsync(vmm, id.GetString() ?? "", cancellationToken)
            : null;
        Apply(command, JsonObject.Create(arguments) ?? [], vmm, pinned);
    }

    /// <summary>Notes what the guest did.</summary>
    public void NoteEvent(QmpEvent e)
    {
        if (e.Name == "DEVICE_DELETED" && e.Data.TryGetProperty("device", out var id))
            Apply("device_del", new JsonObject { ["id"] = id.GetString() }, supervisor.Current, null);
    }

    private void Apply(string command, JsonObject arguments, Vmm vmm, IReadOnlyDictionary<string, string>? pinned)
    {
        lock (_lock)
        {
            var before = supervisor.Record.Spec;
            var version = new Version(vmm.Version.Major, vmm.Version.Minor, vmm.Version.Micro);
            var after = HotPlug.Apply(before, command, arguments, version, pinned).Spec;
            if (ReferenceEquals(before, after) || before.Equals(after))
                return;
            supervisor.UpdateRecord(r => r with { Spec = after });
            try
            {
                supervisor.SaveRecord();
            }
            catch (IOException e)
            {
                // The change is made and known here; what is on disk is written again with the next one.
                SupervisorLog.HistoryNotWritten(logger, supervisor.Directory.Record, e);
            }
        }
    }

    /// <summary>Where QEMU put the device, so that the next VMM puts it there too.</summary>
    private static async Task<Dictionary<string, string>?> PlaceOfAsync(Vmm vmm, string id, CancellationToken cancellationToken)
    {
        var path = $"/machine/peripheral/{id}";
        var bus = await QomReader.TryReadAsync(vmm, path, "parent_bus", cancellationToken);
        if (bus?.GetString() is not { Length: > 0 } busPath)
            return null;

        var place = new Dictionary<string, string>(StringComparer.Ordinal) { ["bus"] = busPath[(busPath.LastIndexOf('/') + 1)..] };
        var address = await QomReader.TryReadAsync(vmm, path, "addr", cancellationToken);
        if (address is { ValueKind: JsonValueKind.Number } devfn)
        {
            var number = devfn.GetInt32();
            place["addr"] = string.Create(CultureInfo.InvariantCulture, $"0x{number >> 3:x}.{number & 7:x}");
        }

        return place;
    }
}
