using System.Collections.Frozen;
using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Commands that set something in the VMM which neither a command line nor the device state carries, but the same command does.</summary>
internal static class KeptSettings
{
    private static readonly FrozenDictionary<string, string> Commands = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["block_set_io_throttle"] = "the I/O limits",
        ["set_link"] = "the link state",
        ["watchdog-set-action"] = "the watchdog's action",
        ["set-action"] = "the actions on guest events",
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>The VM with what this command sets; null when it sets nothing of this kind.</summary>
    public static VmSpec? Keep(VmSpec spec, string command, JsonObject arguments)
    {
        OptionString given = OptionString.Parse(JsonOptions.Render(arguments));
        if (What(command, given) is not { } what)
            return null;
        string subject = given["id"] ?? given["device"] ?? given["name"] ?? given["path"] ?? "";
        int at = spec.Settings.IndexOf(spec.Settings.FirstOrDefault(s => s.Command.Is(command) && s.Subject.Is(subject))!);
        var kept = new KeptSetting(command, subject, JsonOptions.Render(at < 0 ? arguments : Merge(spec.Settings[at], arguments)), what);
        return spec with { Settings = at < 0 ? spec.Settings.Add(kept) : spec.Settings.SetItem(at, kept) };
    }

    /// <summary>The VM without what was set for a device that is gone.</summary>
    public static VmSpec Forget(VmSpec spec, string device) =>
        spec with { Settings = spec.Settings.RemoveAll(s => s.Subject.Is(device) || s.Subject.Split('/').Contains(device, StringComparer.Ordinal)) };

    /// <summary>What a command leaves out is as the one before it said.</summary>
    private static JsonObject Merge(KeptSetting before, JsonObject arguments)
    {
        JsonObject merged = JsonOptions.Parse(before.Arguments);
        foreach ((string key, JsonNode? value) in arguments)
            merged[key] = value?.DeepClone();
        return merged;
    }

    private static string? What(string command, OptionString given) =>
        command.Is("qom-set")
            ? given["property"].Is("guest-stats-polling-interval") ? "the interval of the balloon's statistics" : null
            : Commands.GetValueOrDefault(command);
}
