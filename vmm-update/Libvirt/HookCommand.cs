using System.Net.Sockets;
using System.Text;
using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary><c>cprsharp libvirt-hook OBJECT OPERATION SUBOP EXTRA</c>: libvirt's hook, by its <c>docs/hooks.rst</c>.</summary>
/// <remarks>
/// Called with libvirt's lock on the domain held: it never asks libvirt anything, and ends within its deadline. It prints nothing on
/// standard output, because for <c>migrate</c> and <c>restore</c> that would become the domain's XML. Only <c>prepare</c> may fail, and only
/// where the policy says so: for <c>reconnect</c> a failure would kill the guest.
/// </remarks>
internal static class HookCommand
{
    public const string Command = "libvirt-hook";

    /// <summary>What libvirt takes for a refusal; any other failure of ours the launcher turns into success.</summary>
    public const int Refused = ExitCodes.Refused;

    private const int LongestXml = 16 << 20;

    private const int Warning = 12; // facility user, severity warning (RFC 5424)

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(5);

    public static async Task<int> RunAsync(string[] arguments)
    {
        try
        {
            using var deadline = new CancellationTokenSource(Deadline);
            return await RunAsync(arguments, Console.OpenStandardInput(), deadline.Token).WaitAsync(Deadline);
        }
        catch (Exception e)
        {
            // Whatever it is, it is not the guest's fault.
            Say($"the libvirt hook failed and lets the domain be: {e.Message}");
            return ExitCodes.Done;
        }
    }

    private static async Task<int> RunAsync(string[] arguments, Stream input, CancellationToken cancellationToken)
    {
        // Always read to its end: libvirt writes the domain's XML for every operation.
        var text = await ReadAsync(input, cancellationToken);
        if (arguments is not [var domain, var operation, ..])
        {
            Say("the libvirt hook was called without an object and an operation");
            return ExitCodes.Done;
        }

        await using var services = Settings.Load();
        var options = services.GetRequiredService<IOptions<LibvirtOptions>>().Value;
        switch (operation)
        {
            case "prepare":
                return Prepare(domain, text, options);
            case "release":
                Release(domain, options);
                return ExitCodes.Done;
            default:
                return ExitCodes.Done; // start, started, stopped, migrate, restore, reconnect, attach, and what comes with later libvirts
        }
    }

    /// <summary>Before anything has been done for the domain: the one moment at which a refusal costs nothing.</summary>
    private static int Prepare(string domain, string text, LibvirtOptions options)
    {
        var advice = DomainAdvice.Of(LibvirtHost.Parse(text, domain), LibvirtHost.Facts());
        var blockers = advice.Findings.Where(f => f.Severity == Severity.Fail).ToArray();
        if (blockers.Length == 0)
            return ExitCodes.Done;

        var refuses = options.HookPolicy == "refuse";
        foreach (var finding in blockers)
            Say($"domain {domain} {(refuses ? "is refused, because it" : "starts, but")} could not be live-updated: {finding.Id} {finding.Object}: {finding.Evidence}; {finding.Fix}");
        return refuses ? Refused : ExitCodes.Done;
    }

    /// <summary>All of the domain is over. What a killed supervisor could not clear away is cleared now.</summary>
    private static void Release(string domain, LibvirtOptions options)
    {
        var directory = new VmDirectory(options.StateDirectory, DomainName.ToVmName(domain));
        if (!directory.Exists || SupervisorLock.IsTaken(directory))
            return;
        try
        {
            RecordedVm.RequireGone(directory);
        }
        catch (UpdateException e)
        {
            Say(e.Message);
        }
    }

    private static async Task<string> ReadAsync(Stream input, CancellationToken cancellationToken)
    {
        var bytes = new MemoryStream();
        var buffer = new byte[64 << 10];
        int count;
        while ((count = await input.ReadAsync(buffer, cancellationToken)) > 0)
        {
            if (bytes.Length + count > LongestXml)
                throw new InvalidDataException($"the domain's XML is longer than {LongestXml >> 20} MiB");
            bytes.Write(buffer, 0, count);
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }

    /// <summary>libvirt shows its caller what a hook that fails has written to standard error, and drops the rest: that is for the system's log.</summary>
    private static void Say(string message)
    {
        Console.Error.WriteLine($"cprsharp: {message}");
        try
        {
            using var log = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { SendTimeout = 1000, Blocking = false };
            log.SendTo(Encoding.UTF8.GetBytes($"<{Warning}>cprsharp: {message}"), new UnixDomainSocketEndPoint("/dev/log"));
        }
        catch (SocketException)
        {
            // A host without a system log.
        }
    }
}
