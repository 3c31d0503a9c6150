using CprSharp.Memfd;
using CprSharp.VmmUpdate.Cli;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace CprSharp.VmmUpdate.Libvirt;

/// <summary><c>cprsharp emulator ARGS</c>, which <c>cprsharp-qemu-system-x86_64</c> becomes: what libvirt runs as a domain's emulator.</summary>
/// <remarks>
/// A domain's start makes this process its supervisor, under the number that libvirt knows. Whatever else libvirt asks for, the real QEMU
/// answers, executed in this process's place with arguments, number and descriptors as they are.
/// </remarks>
internal static class Emulator
{
    /// <summary>The word by which the launcher calls it.</summary>
    public const string Command = "emulator";

    private const int FirstHeldDescriptor = 200;

    public static async Task<int> RunAsync(string[] arguments)
    {
        // Before anything here opens a descriptor that might not be close-on-exec.
        var passed = ProgramReplacement.PassedDescriptors();
        try
        {
            await using var services = Settings.Load();
            var options = services.GetRequiredService<IOptions<LibvirtOptions>>().Value;
            return TryParse(arguments) is { } line && EmulatorLine.DomainOf(line) is { } domain
                ? await SuperviseAsync(domain, line, passed, options, services)
                : ProgramReplacement.Become(options.Qemu, arguments);
        }
        catch (CommandLineException e)
        {
            return Fail("command-line", e.Message, e.Fix);
        }
        catch (UpdateException e)
        {
            return Fail(e.Code, e.Message, e.Fix);
        }
        catch (OptionsValidationException e)
        {
            Fail("configuration", string.Join("; ", e.Failures), $"correct {Settings.File} or the {Settings.EnvironmentPrefix}… variables");
            return ExitCodes.BadConfiguration;
        }
        catch (UnauthorizedAccessException e)
        {
            return Fail("not-allowed", $"{e.Message}{HostFacts.ConfinedAs()}", "see the chapter on libvirt's users and security modules in cprsharp's documentation, docs/libvirt.md");
        }
        catch (IOException e)
        {
            return Fail("failed", e.Message, "");
        }
    }

    private static async Task<int> SuperviseAsync(
        string domain, QemuCommandLine line, IReadOnlyList<int> passed, LibvirtOptions options, ServiceProvider services)
    {
        var settings = HostFacts.LaunchSettings() with
        {
            FirstDescriptor = Math.Max(FirstHeldDescriptor, passed.DefaultIfEmpty(0).Max() + 1),
            ServesPassedSockets = true,
        };
        var (facts, spec) = await SupervisedStart.TranslateAsync(options.Qemu, line, settings, CancellationToken.None);
        var served = spec.ClientSockets.Select(s => s.Address).Concat(spec.Descriptors.OfType<ConsoleDescriptor>().Select(c => c.Address))
            .OfType<DescriptorAddress>().Select(d => d.Number);
        var life = new VmLife(spec) { EndsWithSupervisor = true, Unnamed = [.. passed.Except(served)] };
        return await SupervisedStart.RunAsync(
            new VmDirectory(options.StateDirectory, DomainName.ToVmName(domain)), facts, life, services, static () => { }, CancellationToken.None);
    }

    /// <summary>What is not QEMU's language is for QEMU to complain about.</summary>
    private static QemuCommandLine? TryParse(string[] arguments)
    {
        try
        {
            return QemuCommandLine.Parse(arguments);
        }
        catch (CommandLineException)
        {
            return null;
        }
    }

    /// <summary>libvirt shows the end of the domain's log, to which this goes.</summary>
    private static int Fail(string code, string message, string fix)
    {
        new Terminal().Error(new ReportError(code, message, fix));
        return ExitCodes.Failed;
    }
}
