namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Command lines of a VM's VMMs, as <c>argv[1..]</c>.</summary>
/// <remarks>The caller adds what belongs to one process: its inner QMP socket, and for a target <c>-S</c> and <c>-incoming</c>.</remarks>
public static class Rendering
{
    /// <summary>For the VMM that starts the guest.</summary>
    /// <param name="spec">The VM.</param>
    /// <param name="facts">The binary to start; when omitted, the one that the VM was translated for.</param>
    public static IReadOnlyList<string> RenderFirstStart(this VmSpec spec, BinaryFacts? facts = null) => Render(spec, facts, OptionScope.FirstStart);

    /// <summary>For a VMM that takes the running guest over.</summary>
    /// <param name="spec">The VM.</param>
    /// <param name="facts">The binary to start; when omitted, the one that the VM was translated for.</param>
    public static IReadOnlyList<string> RenderTarget(this VmSpec spec, BinaryFacts? facts = null) => Render(spec, facts, OptionScope.UpdateTarget);

    private static List<string> Render(VmSpec spec, BinaryFacts? facts, OptionScope scope)
    {
        ArgumentNullException.ThrowIfNull(spec);
        return [.. spec.Options.Where(option => option.Scope == OptionScope.Always || option.Scope == scope)
            .Select(option => scope == OptionScope.UpdateTarget && option.TargetValue is { } value ? option with { Value = value } : option)
            .SelectMany(option => facts is null ? [option] : BinaryDialect.For(facts, spec, option))
            .SelectMany(static option => QemuCommandLine.Arguments(option.Name, option.Value))];
    }
}
