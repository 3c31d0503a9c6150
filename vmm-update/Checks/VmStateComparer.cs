using System.Text.Json;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Pure: can the new binary read what the old one writes, by the versions that both declare per device type.</summary>
/// <remarks>QEMU, <c>docs/devel/migration/main.rst</c>, "Versions": a section is refused when its version is above the reader's or below its minimum.</remarks>
internal static class VmStateComparer
{
    public static IEnumerable<Finding> Compare(JsonElement old, JsonElement fresh, IReadOnlySet<string> deviceTypes)
    {
        var compared = 0;
        var broken = 0;
        foreach (var section in old.EnumerateObject())
        {
            if (!deviceTypes.Contains(section.Name) || !section.Value.TryGetProperty("version_id", out var writes))
                continue;

            compared++;
            if (!fresh.TryGetProperty(section.Name, out var reader))
            {
                // Not a proof: older versions register some descriptions (piix3-ide) at run time, where no dump shows them.
                broken++;
                yield return Finding.Warn(
                    "vmstate", section.Name, "the new binary does not list a state description for this device; whether it reads the old one's is seen at the load, and a failing load brings the guest back",
                    "nothing, unless the update then fails");
                continue;
            }

            var version = writes.GetInt32();
            var newest = reader.GetProperty("version_id").GetInt32();
            var oldest = reader.GetProperty("minimum_version_id").GetInt32();
            if (version > newest || version < oldest)
            {
                broken++;
                yield return Finding.Fail(
                    "vmstate", section.Name, $"the old binary writes version {version}, the new one reads {oldest} to {newest}", "choose another binary, or unplug the device");
            }
        }

        if (broken == 0)
            yield return Finding.Pass("vmstate", "machine", $"{compared} device types of this VM have state descriptions, all readable by the new binary");
    }
}
