using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Qemu;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>Reads QOM properties that not every version or device has.</summary>
internal static class QomReader
{
    /// <summary>The property's value; null when the object or property does not exist.</summary>
    public static async Task<JsonElement?> TryReadAsync(Vmm vmm, string path, string property, CancellationToken cancellationToken)
    {
        try
        {
            return await vmm.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = property }, cancellationToken);
        }
        catch (QmpException)
        {
            return null;
        }
    }
}
