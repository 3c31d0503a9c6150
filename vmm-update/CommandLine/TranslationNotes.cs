namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>What a translation says and leaves to be done, beside the options.</summary>
internal class TranslationNotes
{
    public List<AfterCommitAction> AfterCommit { get; } = [];

    public List<string> Changes { get; } = [];

    public List<SpecFinding> Findings { get; } = [];

    public void Change(string sentence) => Changes.Add(sentence);

    public void Pass(string id, string subject, string evidence) => Add(id, FindingSeverity.Pass, subject, evidence, "");

    public void Warn(string id, string subject, string evidence, string fix) => Add(id, FindingSeverity.Warn, subject, evidence, fix);

    public void Fail(string id, string subject, string evidence, string fix) => Add(id, FindingSeverity.Fail, subject, evidence, fix);

    private void Add(string id, FindingSeverity severity, string subject, string evidence, string fix)
    {
        var finding = new SpecFinding(id, severity, subject, evidence, fix);
        if (!Findings.Contains(finding))
            Findings.Add(finding);
    }
}
