using System.Text.Json.Serialization;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>A build of this program.</summary>
/// <param name="Version">Its version.</param>
/// <param name="Binary">Its file.</param>
public sealed record ProgramIdentity(string Version, string Binary)
{
    /// <summary>The version of the program that runs.</summary>
    [JsonIgnore]
    public static string OwnVersion { get; } = typeof(ProgramIdentity).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";

    /// <summary>The program that runs.</summary>
    [JsonIgnore]
    public static ProgramIdentity Own => new(OwnVersion, Environment.ProcessPath ?? "");
}

/// <summary>What <c>reexec</c> answers.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Vm">The VM's name.</param>
/// <param name="Outcome"><c>replaced</c>, <c>refused</c> (the other program does not fit, nothing was touched) or <c>failed</c> (the supervisor goes on as it was).</param>
/// <param name="Pid">The supervisor's process, the same before and after.</param>
/// <param name="From">The program that supervised.</param>
/// <param name="To">The one that was to supervise, and does if the outcome says so.</param>
/// <param name="UnservedMs">How long clients had to wait, in milliseconds; null when they had not.</param>
/// <param name="Error">Why not.</param>
public sealed record ReexecReport(
    int Schema, string Vm, string Outcome, int Pid, ProgramIdentity From, ProgramIdentity To, double? UnservedMs, ReportError? Error)
{
    /// <summary>It was done.</summary>
    public const string Replaced = "replaced";

    /// <summary>The other program does not fit.</summary>
    public const string Refused = "refused";

    /// <summary>It was tried and could not be done.</summary>
    public const string Failed = "failed";
}
