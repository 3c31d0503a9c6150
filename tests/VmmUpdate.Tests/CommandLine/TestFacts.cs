using System.Collections.Frozen;
using CprSharp.VmmUpdate.CommandLine;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

internal static class TestFacts
{
    public static BinaryFacts Qemu11 { get; } = new()
    {
        Version = new Version(11, 1, 3),
        MachineAliases = new Dictionary<string, string>(StringComparer.Ordinal) { ["q35"] = "pc-q35-11.1", ["pc"] = "pc-i440fx-11.1" },
        DefaultMachine = "pc",
        MachineProperties = FrozenSet.Create(StringComparer.Ordinal, "aux-ram-share", "memory-backend", "suppress-vmdesc", "hpet"),
        DefaultRamId = "pc.ram",
        Displays = FrozenSet.Create(StringComparer.Ordinal, "none", "curses", "egl-headless"),
    };

    public static BinaryFacts Qemu7 { get; } = Qemu11 with
    {
        Version = new Version(7, 2, 22),
        MachineAliases = new Dictionary<string, string>(StringComparer.Ordinal) { ["q35"] = "pc-q35-7.2", ["pc"] = "pc-i440fx-7.2" },
        MachineProperties = FrozenSet.Create(StringComparer.Ordinal, "memory-backend", "suppress-vmdesc", "hpet"),
    };

    public static VmSpec Translate(string arguments, BinaryFacts? facts = null, LaunchSettings? settings = null) =>
        Translate(Words(arguments), facts, settings);

    public static VmSpec Translate(IReadOnlyList<string> argv, BinaryFacts? facts = null, LaunchSettings? settings = null) =>
        Launch.Translate(QemuCommandLine.Parse(argv), facts ?? Qemu11, settings).Spec
        ?? throw new InvalidOperationException("a passthrough, not a VM");

    /// <summary>Splits at white space; single quotes hold a word together.</summary>
    public static string[] Words(string text)
    {
        var words = new List<string>();
        var word = new System.Text.StringBuilder();
        bool quoted = false, any = false;
        foreach (char c in text)
        {
            if (c == '\'')
                (quoted, any) = (!quoted, true);
            else if (char.IsWhiteSpace(c) && !quoted)
            {
                if (any)
                    words.Add(word.ToString());
                word.Clear();
                any = false;
            }
            else
            {
                word.Append(c);
                any = true;
            }
        }
        if (any)
            words.Add(word.ToString());
        return [.. words];
    }

    public static string Line(IEnumerable<string> argv) => string.Join(' ', argv);

    public static SpecFinding? Finding(this VmSpec spec, string id) => spec.Findings.FirstOrDefault(finding => finding.Id == id);
}
