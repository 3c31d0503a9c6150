using System.ComponentModel.DataAnnotations;

namespace CprSharp.VmmUpdate.Hosting;

/// <summary>Settings for VMs of libvirt: section <c>Libvirt</c>.</summary>
public sealed class LibvirtOptions
{
    /// <summary>The section's name.</summary>
    public const string Section = "Libvirt";

    /// <summary>The QEMU that <c>cprsharp-qemu-system-x86_64</c> stands for: the one that domains start on.</summary>
    [Required]
    [RegularExpression("^/.+$", ErrorMessage = "Libvirt:Qemu must be the absolute path of a qemu-system-… executable")]
    public string Qemu { get; set; } = "/usr/bin/qemu-system-x86_64";

    /// <summary>Runtime state of libvirt's domains. libvirt's emulator user must be allowed to make directories there.</summary>
    [Required]
    [RegularExpression("^/.+$", ErrorMessage = "Libvirt:StateDirectory must be an absolute path")]
    public string StateDirectory { get; set; } = "/run/cprsharp";

    /// <summary>What the hook does with a domain that could not be live-updated: <c>warn</c> or <c>refuse</c> to start it.</summary>
    [Required]
    [RegularExpression("^(warn|refuse)$", ErrorMessage = "Libvirt:HookPolicy must be warn or refuse")]
    public string HookPolicy { get; set; } = "warn";
}
