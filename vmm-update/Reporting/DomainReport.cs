using System.Collections.Immutable;

namespace CprSharp.VmmUpdate.Reporting;

/// <summary>The document that <c>libvirt check</c> prints with <c>--json</c>.</summary>
/// <param name="Schema">Version of this document's form.</param>
/// <param name="Domain">The domain's name.</param>
/// <param name="Verdict">The result for the XML as it is.</param>
/// <param name="Findings">Each thing looked at.</param>
/// <param name="Changes">What is different in <paramref name="Xml"/>, one sentence each.</param>
/// <param name="Xml">The XML with these changes.</param>
public sealed record DomainReport(
    int Schema, string Domain, Verdict Verdict, ImmutableArray<Finding> Findings, ImmutableArray<string> Changes, string Xml);
