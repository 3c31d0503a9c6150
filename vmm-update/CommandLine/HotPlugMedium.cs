namespace CprSharp.VmmUpdate.CommandLine;

/// <summary>Removable media that were changed at run time.</summary>
internal static class HotPlugMedium
{
    /// <summary><c>blockdev-change-medium</c>: another file in a drive.</summary>
    public static VmSpec Change(VmSpec spec, TranslationNotes notes, OptionString given)
    {
        if (given["filename"] is not { } file || FindDrive(spec, given) is not { } at)
            return Unknown(spec, notes, given);
        return HotPlug.Replace(spec, at, WithDrive(spec.Options[at], drive =>
        {
            drive = drive.With("file", file);
            if (given["format"] is { } format)
                drive = drive.With("format", format);
            return given["read-only-mode"] switch
            {
                "read-only" => drive.With("readonly", true),
                "read-write" => drive.With("readonly", false),
                _ => drive,
            };
        }));
    }

    /// <summary><c>eject</c> and <c>blockdev-remove-medium</c>: an empty drive.</summary>
    public static VmSpec Eject(VmSpec spec, TranslationNotes notes, OptionString given)
    {
        if (FindDrive(spec, given) is { } at)
            return HotPlug.Replace(spec, at, WithDrive(spec.Options[at], static drive => drive.Without("file", "format", "readonly")));
        if (FindDevice(spec, given) is not { } device)
            return Unknown(spec, notes, given);
        return HotPlug.Replace(spec, device, With(spec.Options[device], static options => options.Without("drive")));
    }

    /// <summary><c>blockdev-insert-medium</c>: a node in a drive.</summary>
    public static VmSpec Insert(VmSpec spec, TranslationNotes notes, OptionString given)
    {
        if (given["node-name"] is not { } node || FindDevice(spec, given) is not { } device)
            return Unknown(spec, notes, given);
        return HotPlug.Replace(spec, device, With(spec.Options[device], options => options.With("drive", node)));
    }

    private static VmSpec Unknown(VmSpec spec, TranslationNotes notes, OptionString given)
    {
        notes.Fail("medium", given["id"] ?? given["device"] ?? "drive", "the medium was changed, and the drive is not named on the command line",
            "give the drive an id: -drive if=none,id=ID and -device …,drive=ID,id=ID");
        return spec;
    }

    /// <summary>The <c>-drive</c> (or <c>-cdrom</c>) that a command names by the drive's own id, by its device's, or by QEMU's names.</summary>
    private static int? FindDrive(VmSpec spec, OptionString given)
    {
        if ((given["device"] ?? given["id"]) is not { } name)
            return null;
        int at = HotPlug.IndexOf(spec, "drive", null, "id", name);
        if (at < 0 && FindDevice(spec, given) is { } device && OptionString.Parse(spec.Options[device], "driver")["drive"] is { } drive)
            at = HotPlug.IndexOf(spec, "drive", null, "id", drive);
        if (at < 0 && name.IsOneOf("ide1-cd0", "ide2-cd0"))
            at = spec.Options.FindIndex(static option => option.Name.Is("cdrom"));
        return at < 0 ? null : at;
    }

    private static int? FindDevice(VmSpec spec, OptionString given) =>
        (given["id"] ?? given["device"]) is { } id && HotPlug.IndexOf(spec, "device", "driver", "id", id) is >= 0 and var at ? at : null;

    /// <summary>A <c>-cdrom</c> as the <c>-drive</c> that it is short for, so that it can be empty.</summary>
    private static SpecOption WithDrive(SpecOption option, Func<OptionString, OptionString> change) => option.Name.Is("cdrom")
        ? new SpecOption("drive", change(OptionString.Parse("index=2,media=cdrom").With("file", option.Text)).ToString())
        : option with { Value = change(OptionString.Parse(option, null)).ToString() };

    private static SpecOption With(SpecOption option, Func<OptionString, OptionString> change) =>
        option with { Value = change(OptionString.Parse(option, "driver")).ToString() };

    private static int FindIndex(this System.Collections.Immutable.ImmutableArray<SpecOption> options, Predicate<SpecOption> match)
    {
        for (int i = 0; i < options.Length; i++)
        {
            if (match(options[i]))
                return i;
        }
        return -1;
    }
}
