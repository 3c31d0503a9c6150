using System.Collections.Immutable;
using System.Text.Json;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>The reports of a VM's updates, one JSON document per line.</summary>
internal static class UpdateHistory
{
    public static void Append(VmDirectory directory, UpdateReport report) =>
        File.AppendAllText(directory.History, JsonSerializer.Serialize(report, ReportJson.Default.UpdateReport) + "\n");

    /// <summary>All reports, oldest first. A line that a crash or a full disk cut short is left out.</summary>
    public static async Task<ImmutableArray<UpdateReport>> ReadAsync(VmDirectory directory)
    {
        var lines = File.Exists(directory.History) ? await File.ReadAllLinesAsync(directory.History) : [];
        return [.. lines.Select(Parse).OfType<UpdateReport>()];
    }

    private static UpdateReport? Parse(string line)
    {
        try
        {
            return line.Length == 0 ? null : JsonSerializer.Deserialize(line, ReportJson.Default.UpdateReport);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
