using System.Diagnostics;
using System.Xml;
using System.Xml.Linq;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary>What this host's libvirt says, through its own client, and what it can use.</summary>
internal static class LibvirtHost
{
    /// <summary>What the package installs for AppArmor; libvirt's abstraction for its QEMUs includes the directory.</summary>
    public const string AppArmorRules = "/etc/apparmor.d/abstractions/libvirt-qemu.d/cprsharp";

    private const string Launcher = "cprsharp-qemu-system-x86_64";

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    public static AdviceFacts Facts() => new(
        Launchers().FirstOrDefault(File.Exists) ?? $"/usr/bin/{Launcher}",
        File.Exists("/dev/vhost-net"),
        ConfinementAt("/"));

    /// <summary>What the kernel offers, and which rules are installed.</summary>
    /// <param name="root">Where <c>sys</c> and <c>etc</c> are.</param>
    internal static Confinement? ConfinementAt(string root)
    {
        string At(string path) => Path.Combine(root, path);
        if (File.Exists(At("sys/kernel/security/apparmor/profiles")) || StartsWith(At("sys/module/apparmor/parameters/enabled"), 'Y'))
            return new Confinement("apparmor", !StartsWith(At("sys/module/apparmor/parameters/mode"), 'c'), File.Exists(At(AppArmorRules[1..])));
        return Directory.Exists(At("sys/fs/selinux/class")) ? new Confinement("selinux", StartsWith(At("sys/fs/selinux/enforce"), '1'), AllowsSupervisor: false) : null;
    }

    /// <summary>The XML that a domain starts with next time.</summary>
    public static async Task<XElement> DomainAsync(string name, CancellationToken cancellationToken) =>
        Parse(await VirshAsync(["dumpxml", "--inactive", "--domain", name], cancellationToken), name);

    /// <summary>What <c>virsh domstate</c> says, for example <c>running</c>.</summary>
    public static async Task<string> StateAsync(string name, CancellationToken cancellationToken) =>
        (await VirshAsync(["domstate", "--domain", name], cancellationToken)).Trim();

    /// <summary>A <c>domain</c> element from text.</summary>
    /// <exception cref="UpdateException">It is not one.</exception>
    public static XElement Parse(string text, string from)
    {
        try
        {
            var settings = new XmlReaderSettings { DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null };
            using var reader = XmlReader.Create(new StringReader(text), settings);
            return XElement.Load(reader) is { Name.LocalName: "domain" } domain
                ? domain
                : throw new UpdateException("not-a-domain", $"{from} is XML, but not of a domain", "give the XML of a domain, as `virsh dumpxml` prints it");
        }
        catch (XmlException e)
        {
            throw new UpdateException("not-a-domain", $"{from} is not XML: {e.Message}", "give the XML of a domain, as `virsh dumpxml` prints it", e);
        }
    }

    private static async Task<string> VirshAsync(string[] arguments, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo("virsh") { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (var argument in (string[])["--connect", "qemu:///system", .. arguments])
            start.ArgumentList.Add(argument);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        try
        {
            using var virsh = Process.Start(start)!;
            virsh.StandardInput.Close();
            var output = virsh.StandardOutput.ReadToEndAsync(deadline.Token);
            var errors = await virsh.StandardError.ReadToEndAsync(deadline.Token);
            var text = await output;
            await virsh.WaitForExitAsync(deadline.Token);
            return virsh.ExitCode == 0
                ? text
                : throw new UpdateException("virsh", $"virsh {arguments[0]}: {errors.Trim().Replace("error: ", "", StringComparison.Ordinal)}", "`virsh list --all` shows the domains");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new UpdateException("virsh", $"virsh cannot be run: {e.Message}", "install libvirt-clients, or give a file with the domain's XML", e);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UpdateException("virsh", $"virsh {arguments[0]} did not end within {Deadline.TotalSeconds:0} s", "see whether libvirtd answers");
        }
    }

    private static IEnumerable<string> Launchers() =>
        new[] { Path.GetDirectoryName(Environment.ProcessPath) ?? "/usr/bin", "/usr/bin", "/usr/local/bin" }.Select(d => Path.Combine(d, Launcher));

    private static bool StartsWith(string file, char first) => File.Exists(file) && File.ReadAllText(file).StartsWith(first);
}
