using System.Collections.Immutable;
using System.Xml.Linq;
using CprSharp.VmmUpdate.Reporting;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary>What advice needs to know of the host.</summary>
/// <param name="Emulator">Where <c>cprsharp-qemu-system-x86_64</c> is.</param>
/// <param name="HasVhost">Whether libvirt would use the kernel's vhost for virtio networks.</param>
/// <param name="Confinement">The security module that confines domains; null where none does.</param>
internal sealed record AdviceFacts(string Emulator, bool HasVhost, Confinement? Confinement);

/// <summary>A security module for which libvirt's driver labels each domain (<c>seclabel</c> in libvirt's <c>docs/formatdomain.rst</c>).</summary>
/// <param name="Model">As libvirt calls it: <c>apparmor</c> or <c>selinux</c>.</param>
/// <param name="Enforces">Whether it refuses what it does not allow, or only logs it.</param>
/// <param name="AllowsSupervisor">Whether the labels that libvirt makes allow a supervisor what it needs.</param>
internal sealed record Confinement(string Model, bool Enforces, bool AllowsSupervisor);

/// <summary>What in a domain's XML stands in the way of its live update, and the XML without it.</summary>
/// <param name="Domain">The domain's name.</param>
/// <param name="Findings">Each thing looked at.</param>
/// <param name="Changes">What is different in <paramref name="Changed"/>, one sentence each.</param>
/// <param name="Changed">The XML, changed as far as that costs the guest nothing.</param>
internal sealed record DomainAdvice(string Domain, ImmutableArray<Finding> Findings, ImmutableArray<string> Changes, XElement Changed)
{
    /// <summary>Of the XML as it is, not as changed.</summary>
    public Verdict Verdict => Findings.Select(f => f.Severity).DefaultIfEmpty(Severity.Pass).Max() switch
    {
        Severity.Fail => Verdict.Blocked,
        Severity.Warn => Verdict.ReadyWithWarnings,
        _ => Verdict.Ready,
    };

    /// <summary>Advises. Pure. The format is libvirt's <c>docs/formatdomain.rst</c>.</summary>
    /// <param name="domain">A <c>domain</c> element.</param>
    /// <param name="facts">The host.</param>
    public static DomainAdvice Of(XElement domain, AdviceFacts facts)
    {
        var rules = new DomainRules(new XElement(domain), facts);
        rules.Apply();
        return new DomainAdvice((string?)domain.Element("name") ?? "", [.. rules.Findings], [.. rules.Changes], rules.Domain);
    }
}
