namespace CprSharp.VmmUpdate.Supervision;

/// <summary>Names that CprSharp adds to a VM's QMP, under the downstream prefix that the QMP specification prescribes.</summary>
internal static class QmpNames
{
    public const string Prefix = "__org.cprsharp_";
    public const string Check = "check";
    public const string Update = "update";
    public const string Rollback = "rollback";
    public const string Status = "status";
    public const string Cancel = "cancel";
    public const string Reexec = "reexec";
    public const string Lend = "lend";
    public const string UpdateEvent = Prefix + "UPDATE";

    public static IReadOnlyList<string> Commands { get; } =
        [Prefix + Check, Prefix + Update, Prefix + Rollback, Prefix + Status, Prefix + Cancel, Prefix + Reexec, Prefix + Lend];
}
