using System.Text.Json;
using System.Text.Json.Serialization;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Supervision;

/// <summary>What runs and how it is started again; in <c>vm.json</c> of the VM's directory.</summary>
internal sealed record VmRecord
{
    /// <summary>2: consoles that the supervisor serves.</summary>
    public const int CurrentSchema = 2;

    public int Schema { get; init; } = CurrentSchema;

    public required string Name { get; init; }

    /// <summary>The VM as it is now, hot-plugged devices included.</summary>
    public required VmSpec Spec { get; init; }

    public required string Binary { get; init; }

    public required string Version { get; init; }

    /// <summary>Number of the VMM that runs the guest, from 1.</summary>
    public required int Generation { get; init; }

    public required int Pid { get; init; }

    /// <summary>Start time of that process (<c>/proc/PID/stat</c>, field 22).</summary>
    public required long StartTicks { get; init; }

    public required string QmpPath { get; init; }

    public required int SupervisorPid { get; init; }

    /// <summary>Whether CprSharp did not start this VM.</summary>
    public bool Adopted { get; init; }

    /// <summary>Whether the VM has no terminal.</summary>
    public bool Detached { get; init; }

    /// <summary>Whether the VM ends when its supervisor does, however that ends: as whoever started it expects of an emulator.</summary>
    public bool EndsWithSupervisor { get; init; }

    /// <summary>The binary before the last update; where <c>rollback</c> goes.</summary>
    public string? PreviousBinary { get; init; }

    public string? LastEngine { get; init; }

    public DateTimeOffset? LastUpdate { get; init; }

    public string? LastOutcome { get; init; }

    public double? LastPauseMs { get; init; }

    public string WorkingDirectory { get; init; } = "/";

    /// <summary>For people who look at the service manager.</summary>
    [JsonIgnore]
    public string StatusLine => $"QEMU {Version} (pid {Pid}){(LastUpdate is null ? "" : $", last update {LastOutcome}")}";
}

/// <summary>Reads and writes the files of a VM's directory.</summary>
internal static class VmFiles
{
    public static void Write(VmDirectory directory, VmRecord record) =>
        WriteAtomically(directory.Record, JsonSerializer.Serialize(record, VmFilesJson.Default.VmRecord));

    /// <summary>The record; null when there is none.</summary>
    /// <exception cref="UpdateException">It is damaged or of a newer version.</exception>
    public static VmRecord? ReadRecord(VmDirectory directory) =>
        Read(directory.Record, VmFilesJson.Default.VmRecord) is { } record
            ? RequireSchema(record, record.Schema, VmRecord.CurrentSchema, directory.Record)
            : null;

    public static void Write(VmDirectory directory, UpdateJournal? journal)
    {
        if (journal is null)
        {
            File.Delete(directory.UpdateJournal);
            File.Delete(Unfinished(directory.UpdateJournal)); // of a supervisor that was killed just then
        }
        else
        {
            WriteAtomically(directory.UpdateJournal, JsonSerializer.Serialize(journal, VmFilesJson.Default.UpdateJournal));
        }
    }

    public static UpdateJournal? ReadJournal(VmDirectory directory) =>
        Read(directory.UpdateJournal, VmFilesJson.Default.UpdateJournal) is { } journal
            ? RequireSchema(journal, journal.Schema, UpdateJournal.CurrentSchema, directory.UpdateJournal)
            : null;

    /// <summary>Written beside and renamed, so that a reader, and a supervisor after a crash, sees the old or the new text and nothing between.</summary>
    private static void WriteAtomically(string path, string text)
    {
        var temporary = Unfinished(path);
        using (var stream = new FileStream(temporary, FileMode.Create, FileAccess.Write))
        {
            using var writer = new StreamWriter(stream);
            writer.Write(text);
            writer.Flush();
            stream.Flush(flushToDisk: true);
        }

        File.Move(temporary, path, overwrite: true);
    }

    private static string Unfinished(string path) => path + ".new";

    private static T? Read<T>(string path, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllText(path), type);
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is JsonException or NotSupportedException) // the latter: of a kind that is not known
        {
            throw new UpdateException("state-damaged", $"{path} cannot be read: {e.Message}", "restore the file, or remove the VM's directory and adopt the VM by its QMP socket");
        }
    }

    private static T RequireSchema<T>(T value, int found, int known, string path) =>
        found <= known
            ? value
            : throw new UpdateException("state-newer", $"{path} has schema {found}; this cprsharp reads up to {known}", "use the newer cprsharp that wrote it");
}

/// <summary>Serialisation of the files in a VM's directory.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(VmRecord))]
[JsonSerializable(typeof(UpdateJournal))]
internal sealed partial class VmFilesJson : JsonSerializerContext;
