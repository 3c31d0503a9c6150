namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Displays.</summary>
internal static class DisplayTranslation
{
    /// <summary>Whether somebody can see a virtual console of this VM.</summary>
    public static bool IsVisible(SpecDraft draft) =>
        draft.HasOption("vnc") || !draft.Named("display").Any(static option => OptionString.Parse(option, "type")["type"].Is("none"));
}
