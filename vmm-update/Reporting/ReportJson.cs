using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>Enumerations in JSON as <c>camelCase</c> text.</summary>
internal sealed class CamelCaseEnum<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.CamelCase)
    where T : struct, Enum;

/// <summary>The documents that the program prints and the supervisor answers with.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    Converters = [typeof(CamelCaseEnum<Severity>), typeof(CamelCaseEnum<UpdatePhase>), typeof(CamelCaseEnum<UpdateOutcome>), typeof(CamelCaseEnum<FleetOutcome>), typeof(CamelCaseEnum<Verdict>)])]
[JsonSerializable(typeof(UpdateReport))]
[JsonSerializable(typeof(CheckReport))]
[JsonSerializable(typeof(StatusReport))]
[JsonSerializable(typeof(StatusDocument))]
[JsonSerializable(typeof(HistoryDocument))]
[JsonSerializable(typeof(FaultPointsDocument))]
[JsonSerializable(typeof(FleetReport))]
[JsonSerializable(typeof(ReexecReport))]
[JsonSerializable(typeof(DomainReport))]
[JsonSerializable(typeof(InventoryReport))]
[JsonSerializable(typeof(ErrorDocument))]
[JsonSerializable(typeof(System.Text.Json.Nodes.JsonObject))]
internal sealed partial class ReportJson : JsonSerializerContext
{
    /// <summary>For people's and programs' eyes: indented, and paths as they are.</summary>
    public static ReportJson Printed => new(new JsonSerializerOptions(Default.Options)
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });
}
