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
        // As bytes: text whose damage looks like the mark of another encoding would be read as that to its end.
        byte[] all = File.Exists(directory.History) ? await File.ReadAllBytesAsync(directory.History) : [];
        var reports = ImmutableArray.CreateBuilder<UpdateReport>();
        foreach (var line in all.AsSpan().Split((byte)'\n'))
        {
            if (Parse(all.AsSpan(line)) is { } report)
                reports.Add(report);
        }

        return reports.DrainToImmutable();
    }

    private static UpdateReport? Parse(ReadOnlySpan<byte> line)
    {
        try
        {
            return line.IsEmpty ? null : JsonSerializer.Deserialize(line, ReportJson.Default.UpdateReport);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
