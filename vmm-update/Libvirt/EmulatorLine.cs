using CprSharp.VmmUpdate.CommandLine;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary>What libvirt wants when it runs its emulator. Pure.</summary>
/// <remarks>
/// libvirt starts a domain with its name (<c>-name guest=NAME</c>) and a monitor whose listening socket it passes by number
/// (<c>-chardev socket,id=charmonitor,fd=N,server=on</c>; qemuBuildMonitorCommandLine in libvirt's src/qemu/qemu_command.c). Everything else,
/// above all its probe of what the binary can do (<c>-machine none</c>, qemu_process.c, qemuProcessQMPLaunch), is a question to QEMU.
/// </remarks>
internal static class EmulatorLine
{
    /// <summary>The name of the domain that this command line starts; null when it starts none.</summary>
    public static string? DomainOf(QemuCommandLine line)
    {
        if (Launch.StartsNoGuest(line) || !HasPassedMonitor(line))
            return null;
        var name = line.Options.LastOrDefault(o => o.Name == "name")?.Value;
        return name is null ? null : OptionString.Parse(name, "guest")["guest"];
    }

    private static bool HasPassedMonitor(QemuCommandLine line)
    {
        var monitors = Values(line, "mon", "chardev").Where(m => m["mode"] == "control").Select(m => m["chardev"]).ToHashSet(StringComparer.Ordinal);
        return Values(line, "chardev", "backend").Any(c => monitors.Contains(c["id"]) && c["backend"] == "socket" && c.Has("fd") && c.GetSwitch("server") == true);
    }

    private static IEnumerable<OptionString> Values(QemuCommandLine line, string option, string impliedKey) =>
        line.Options.Where(o => o.Name == option && o.Value is not null).Select(o => OptionString.Parse(o.Value!, impliedKey));
}
