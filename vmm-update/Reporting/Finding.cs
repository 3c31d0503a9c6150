namespace CprSharp.VmmUpdate.Reporting;

/// <summary>How much a finding weighs: a <see cref="Fail"/> blocks the update, a <see cref="Warn"/> does not.</summary>
public enum Severity
{
    /// <summary>Looked at and found in order.</summary>
    Pass,

    /// <summary>The update works, but something visible changes or could not be verified.</summary>
    Warn,

    /// <summary>The update would fail or harm the guest; it is refused.</summary>
    Fail,
}

/// <summary>One line of a check: what was looked at, what was seen, and what the operator can change.</summary>
/// <param name="Id">Stable identifier, e.g. <c>machine-alias</c>.</param>
/// <param name="Severity">Its weight.</param>
/// <param name="Object">The device id, memory backend, descriptor or file it is about.</param>
/// <param name="Evidence">What was seen.</param>
/// <param name="Fix">What to change; empty when nothing needs changing.</param>
public sealed record Finding(string Id, Severity Severity, string Object, string Evidence, string Fix)
{
    /// <summary>A finding that needs no action.</summary>
    public static Finding Pass(string id, string @object, string evidence) => new(id, Severity.Pass, @object, evidence, "");

    /// <summary>A finding that does not stop the update.</summary>
    public static Finding Warn(string id, string @object, string evidence, string fix) => new(id, Severity.Warn, @object, evidence, fix);

    /// <summary>A finding that stops the update.</summary>
    public static Finding Fail(string id, string @object, string evidence, string fix) => new(id, Severity.Fail, @object, evidence, fix);
}
