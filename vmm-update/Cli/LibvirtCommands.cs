using CprSharp.VmmUpdate.Libvirt;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp libvirt …</c>: advice about libvirt's domains.</summary>
internal static class LibvirtCommands
{
    /// <summary>Says what stands in the way of a domain's live update.</summary>
    public static async Task<int> CheckAsync(CliContext cli, string domain, bool onlyXml, CancellationToken cancellationToken)
    {
        var xml = domain.Contains('/', StringComparison.Ordinal) || File.Exists(domain)
            ? LibvirtHost.Parse(await File.ReadAllTextAsync(domain, cancellationToken), domain)
            : await LibvirtHost.DomainAsync(domain, cancellationToken);
        var advice = DomainAdvice.Of(xml, LibvirtHost.Facts());
        var report = new DomainReport(1, advice.Domain, advice.Verdict, advice.Findings, advice.Changes, advice.Changed.ToString());
        if (onlyXml)
            cli.Terminal.Line(report.Xml);
        else
            cli.Print(report, ReportJson.Printed.DomainReport, cli.Terminal.Domain);
        return advice.Verdict == Verdict.Blocked ? ExitCodes.Refused : ExitCodes.Done;
    }

    /// <summary>Says what can be done for a domain that runs already.</summary>
    public static async Task<int> AdoptAsync(CliContext cli, string domain, CancellationToken cancellationToken)
    {
        var state = await LibvirtHost.StateAsync(domain, cancellationToken);
        var directory = cli.Find(domain);
        if (File.Exists(directory.Record) && SupervisorLock.IsTaken(directory))
        {
            cli.Terminal.Line($"{domain}: has a supervisor already; `cprsharp check {domain}` says whether it can be updated");
            return ExitCodes.Done;
        }

        var emulator = LibvirtHost.Facts().Emulator;
        if (state == "shut off")
        {
            throw new UpdateException(
                "not-running", $"domain '{domain}' does not run, so there is nothing to adopt",
                $"cprsharp libvirt check --xml {domain} >{domain}.xml; virsh define {domain}.xml: it starts under a supervisor then ({emulator})");
        }

        cli.Terminal.Error(new ReportError(
            "libvirt-holds-monitor",
            $"domain '{domain}' ({state}) runs on QEMU itself and cannot be adopted as it runs: libvirt holds its only QMP monitor, and takes the end of the QEMU that it started for the end of the domain",
            $"""
            save it, and restore it under a supervisor; the guest goes on, and stands still for as long as that takes:
                cprsharp libvirt check --xml {domain} >{domain}.xml
                virsh define {domain}.xml
                virsh save {domain} {domain}.save --xml {domain}.xml
                virsh restore {domain}.save
              or leave out the last two, and it is under one when it is started next
            """));
        return ExitCodes.Refused;
    }
}
