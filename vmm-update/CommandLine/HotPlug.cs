using System.Collections.Frozen;
using System.Text.Json.Nodes;

namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>A VM after a change at run time.</summary>
/// <param name="Spec">The VM as its next VMM has to be started; it has the findings too.</param>
/// <param name="Findings">What this change adds.</param>
public sealed record HotPlugResult(VmSpec Spec, IReadOnlyList<SpecFinding> Findings);

/// <summary>Carries successful QMP commands over into a <see cref="VmSpec"/>, so that the next VMM is started with what the VM has
/// become. Pure; a change that no command line can express becomes a finding that names the object.</summary>
public static class HotPlug
{
    private const string PlugAgain = "remove it before an update and add it again after it";

    /// <summary>Commands after which the disks are not those of the command line.</summary>
    private static readonly FrozenSet<string> ChangesBlockGraph = FrozenSet.Create(StringComparer.Ordinal,
        "blockdev-snapshot", "blockdev-snapshot-sync", "blockdev-reopen", "blockdev-mirror", "drive-mirror", "block-commit", "block-stream",
        "change-backing-file", "x-blockdev-change", "transaction");

    /// <summary>Commands whose effect a new VMM does not have.</summary>
    private static readonly FrozenDictionary<string, string> LostSettings = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["set_password"] = "the display's password",
        ["expire_password"] = "the display's password",
        ["change-vnc-password"] = "the display's password",
        ["nbd-server-start"] = "the NBD server",
        ["trace-event-set-state"] = "the trace events",
        ["chardev-change"] = "the character device's new backend",
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Carries one successful command over.</summary>
    /// <param name="spec">The VM before it.</param>
    /// <param name="command">The QMP command; one that changes nothing about the command line leaves <paramref name="spec"/> as it is.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="version">Version of the VMM that took the command: the types of device properties are read as it reads them.</param>
    /// <param name="pinned">For <c>device_add</c>: properties that say where the device went (bus, addr, port), read back by the caller.</param>
    /// <remarks><c>device_del</c> only asks the guest: apply it when DEVICE_DELETED has come, with the id of the event.</remarks>
    public static HotPlugResult Apply(
        VmSpec spec, string command, JsonObject arguments, Version version, IReadOnlyDictionary<string, string>? pinned = null)
    {
        ArgumentNullException.ThrowIfNull(spec);
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(arguments);
        ArgumentNullException.ThrowIfNull(version);
        OptionString given = OptionString.Parse(JsonOptions.Render(arguments));
        var notes = new TranslationNotes();
        VmSpec result = command switch
        {
            "device_add" => DeviceAdd(spec, notes, given, version, pinned),
            "device_del" => Remove(spec, notes, given["id"], "device", "driver", "id", DeviceFindings.Device),
            "netdev_add" => NetdevAdd(spec, notes, given),
            "netdev_del" => NetdevDel(spec, notes, given["id"]),
            "blockdev-add" => BlockdevAdd(spec, notes, given),
            "blockdev-del" => Remove(spec, notes, given["node-name"], "blockdev", "driver", "node-name", DeviceFindings.Block),
            "object-add" => ObjectAdd(spec, notes, given),
            "object-del" => Remove(spec, notes, given["id"], "object", "qom-type", "id", DescribeObject),
            "chardev-add" => ChardevAdd(spec, notes, given),
            "chardev-remove" => ChardevRemove(spec, notes, given["id"]),
            "blockdev-change-medium" => HotPlugMedium.Change(spec, notes, given),
            "eject" or "blockdev-remove-medium" => HotPlugMedium.Eject(spec, notes, given),
            "blockdev-insert-medium" => HotPlugMedium.Insert(spec, notes, given),
            _ => KeptSettings.Keep(spec, command, arguments) ?? Other(spec, notes, command, given),
        };
        if (command.Is("device_del") && given["id"] is { } unplugged)
            result = KeptSettings.Forget(result, unplugged);
        if (notes.Findings.Count == 0 && notes.AfterCommit.Count == 0)
            return new HotPlugResult(result, []);
        return new HotPlugResult(
            result with
            {
                Findings = [.. result.Findings, .. notes.Findings.Except(result.Findings)],
                AfterCommit = [.. result.AfterCommit, .. notes.AfterCommit],
            },
            notes.Findings);
    }

    internal static VmSpec Replace(VmSpec spec, int at, SpecOption option) => spec with { Options = spec.Options.SetItem(at, option) };

    private static VmSpec Add(VmSpec spec, SpecOption option) => spec with { Options = spec.Options.Add(option) };

    private static VmSpec DeviceAdd(
        VmSpec spec, TranslationNotes notes, OptionString device, Version version, IReadOnlyDictionary<string, string>? pinned)
    {
        foreach ((string key, string value) in pinned ?? FrozenDictionary<string, string>.Empty)
            device = device.With(key, value);
        DeviceFindings.Device(notes, device);
        if (!device.Has("id"))
            notes.Warn("hot-plug-without-id", device["driver"] ?? "device", "a hot-plugged device without id cannot be followed when it is unplugged", "give hot-plugged devices an id");
        // Until 9.1 device_add went through QemuOpts, where every value is text; since then it is as strict as -device JSON.
        bool strict = version >= new Version(9, 2);
        return Add(spec, new SpecOption("device", strict || device.Pairs.Any(static pair => pair.Key.Contains('.', StringComparison.Ordinal)) ? device.ToString() : Plain(device, "driver")));
    }

    private static string Plain(OptionString json, string impliedKey)
    {
        OptionString plain = OptionString.Parse(json[impliedKey] ?? "", impliedKey);
        foreach ((string key, string value) in json.Pairs.Where(pair => !pair.Key.Is(impliedKey)))
            plain = plain.With(key, value);
        return plain.ToString();
    }

    private static VmSpec NetdevAdd(VmSpec spec, TranslationNotes notes, OptionString netdev)
    {
        string id = netdev["id"] ?? "netdev";
        NeedsNamedDescriptor(notes, netdev, id);
        var option = new SpecOption("netdev", netdev.ToString());
        return Add(spec, NetworkTranslation.Translate(notes, option, netdev, id));
    }

    private static VmSpec NetdevDel(VmSpec spec, TranslationNotes notes, string? id)
    {
        VmSpec result = Remove(spec, notes, id, "netdev", "type", "id",
            static (gone, netdev) => NetworkTranslation.Translate(gone, new SpecOption("netdev", null), netdev, netdev["id"] ?? ""));
        string prefix = $"hostfwd_add {id} ";
        return result with
        {
            AfterCommit = result.AfterCommit.RemoveAll(action =>
                OptionString.Parse(action.Arguments)["command-line"] is { } line && line.Begins(prefix)),
        };
    }

    private static VmSpec BlockdevAdd(VmSpec spec, TranslationNotes notes, OptionString block)
    {
        DeviceFindings.Block(notes, block);
        foreach ((string key, string value) in block.Pairs)
        {
            if (key.EndsWith("filename", StringComparison.Ordinal) && value.Begins("/dev/fdset/") && !HasDescriptorSet(spec, value["/dev/fdset/".Length..]))
                NotHeld(notes, block["node-name"] ?? "blockdev", value);
        }
        return Add(spec, new SpecOption("blockdev", block.ToString()));
    }

    private static VmSpec ObjectAdd(VmSpec spec, TranslationNotes notes, OptionString value)
    {
        DescribeObject(notes, value);
        return Add(spec, new SpecOption("object", value.ToString()));
    }

    private static void DescribeObject(TranslationNotes notes, OptionString value)
    {
        string type = value["qom-type"] ?? "";
        string id = value["id"] ?? type;
        DeviceFindings.Object(notes, value);
        if (type.Begins("memory-backend-") && !(type.Is("memory-backend-file") && value.GetSwitch("share") == true))
            notes.Fail("memory-not-held", id, "memory that was added at run time belongs to this process alone", PlugAgain + ", or add it with memory-backend-file,share=on");
        if (type.Is("secret") && value.Has("data"))
            notes.Warn("secret-visible", id, "the secret is on the command line of the next VMM, where every user of the host can read it", "give secrets as a file (secret,file=)");
    }

    private static VmSpec ChardevAdd(VmSpec spec, TranslationNotes notes, OptionString chardev)
    {
        string id = chardev["id"] ?? "chardev";
        NeedsNamedDescriptor(notes, chardev, id);
        if (HotPlugChardev.ToOption(notes, chardev, id) is { } option)
            return Add(spec, option);
        notes.Fail("chardev-not-expressible", id, $"the backend {chardev["backend.type"]} cannot be written as a command line", PlugAgain);
        return spec;
    }

    private static VmSpec ChardevRemove(VmSpec spec, TranslationNotes notes, string? id)
    {
        VmSpec result = Remove(spec, notes, id, "chardev", "backend", "id", static (_, _) => { });
        return result with { Findings = result.Findings.RemoveAll(finding => finding.Object.Is(id ?? "") && finding.Id.Begins("chardev-")) };
    }

    // What describe says of the object goes with it, but not what is said of others of the same name.
    private static VmSpec Remove(
        VmSpec spec, TranslationNotes notes, string? id, string option, string impliedKey, string idKey, Action<TranslationNotes, OptionString> describe)
    {
        if (id is null || IndexOf(spec, option, impliedKey, idKey, id) is not (>= 0 and var at))
        {
            notes.Fail("hot-unplug-unknown", id ?? option, $"-{option} with {idKey}={id} is not on the command line, so that the next VMM would still make it",
                "name the object on the command line: give it an id");
            return spec;
        }
        var gone = new TranslationNotes();
        describe(gone, OptionString.Parse(spec.Options[at], impliedKey));
        return spec with
        {
            Options = spec.Options.RemoveAt(at),
            Findings = [.. spec.Findings.Except(gone.Findings)],
        };
    }

    internal static int IndexOf(VmSpec spec, string option, string? impliedKey, string key, string value)
    {
        for (int i = 0; i < spec.Options.Length; i++)
        {
            if (spec.Options[i].Name.Is(option) && OptionString.Parse(spec.Options[i], impliedKey)[key].Is(value))
                return i;
        }
        return -1;
    }

    private static VmSpec Other(VmSpec spec, TranslationNotes notes, string command, OptionString given)
    {
        string subject = given["device"] ?? given["id"] ?? given["name"] ?? given["node-name"] ?? command;
        if (ChangesBlockGraph.Contains(command))
            notes.Fail("block-graph", subject, $"after {command} the VM's disks are not those of its command line", "restart the VM with the disks that it has now");
        else if (LostSettings.TryGetValue(command, out string? what))
            notes.Warn("setting-lost", subject, $"{what} ({command}) stays in the old VMM", "set it again after an update");
        return spec;
    }

    private static bool HasDescriptorSet(VmSpec spec, string set) =>
        spec.Options.Any(option => option.Name.Is("add-fd") && OptionString.Parse(option, null)["set"].Is(set));

    private static void NeedsNamedDescriptor(TranslationNotes notes, OptionString value, string id)
    {
        foreach ((string key, string text) in value.Pairs)
        {
            bool descriptor = key.IsOneOf("fd", "fds", "vhostfd", "vhostfds") || (key.EndsWith(".str", StringComparison.Ordinal) && value[key[..^4] + ".type"].Is("fd"))
                || key.EndsWith(".data.str", StringComparison.Ordinal);
            if (descriptor && !text.Split(':').All(static part => QemuText.TryNumber(part, out _)))
                NotHeld(notes, id, text);
        }
    }

    private static void NotHeld(TranslationNotes notes, string id, string name) =>
        notes.Fail("descriptor-not-held", id, $"the descriptor {name} was given to this process over QMP; another one does not have it", PlugAgain);
}
