using CprSharp.Memfd;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Microsoft.Win32.SafeHandles;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp run</c>: starts QEMU under a supervisor, here or in the background.</summary>
internal sealed class RunCommand(CliContext cli)
{
    public const string HoldDevices = "--hold-devices";

    public async Task<int> RunAsync(string name, string[] qemu, bool detach, bool print, bool holdDevices, bool adopt, int? readyFd, CancellationToken cancellationToken)
    {
        VmDirectory.ValidateName(name);
        if (adopt && (detach || print))
            throw new ArgumentException("--adopt is for a supervisor that stays: neither --detach nor --print-command goes with it", nameof(adopt));
        var directory = new VmDirectory(cli.StateDirectory, name);
        using var ready = ReadySignal.From(readyFd);
        try
        {
            var binary = CliContext.ResolveBinary(qemu[0]);
            var line = QemuCommandLine.Parse(qemu[1..]);
            if (Launch.StartsNoGuest(line))
                return await PassThroughAsync(binary, qemu[1..]);

            await using var services = Settings.Load();
            if (adopt && await new AdoptCommand(cli).ContinueAsync(directory, services, () => ready?.Ready(), cancellationToken) is { } status)
                return status;
            var (facts, spec) = await SupervisedStart.TranslateAsync(binary, line, HostFacts.LaunchSettings() with { HoldsDevices = holdDevices }, cancellationToken);
            if (print)
                return Print(binary, spec);
            if (detach || spec.Daemonize && readyFd is null)
            {
                string[] options = ["--name", name, "--state-dir", cli.StateDirectory, .. holdDevices ? [HoldDevices] : Array.Empty<string>()];
                return await BackgroundSupervisor.StartAsync(directory, ["run", .. options, "--", .. qemu], cli, Launch.NamedDescriptors(line), cancellationToken);
            }

            return await SupervisedStart.RunAsync(directory, facts, new VmLife(spec) { Detached = readyFd is not null }, services, () => ready?.Ready(), cancellationToken);
        }
        catch (CommandLineException e)
        {
            var error = new UpdateException("command-line", e.Message, e.Fix, e);
            ready?.Failed(error);
            throw error;
        }
        catch (Exception e)
        {
            ready?.Failed(e);
            throw;
        }
    }

    private int Print(string binary, VmSpec spec)
    {
        cli.Terminal.Line(string.Join(" ", new[] { binary }.Concat(spec.RenderFirstStart()).Select(ShellText.Quote)));
        foreach (var change in spec.Changes)
            cli.Terminal.Line($"# {change}");
        return ExitCodes.Done;
    }

    /// <summary>A question to QEMU (help, version, a list) is QEMU's to answer.</summary>
    private static async Task<int> PassThroughAsync(string binary, string[] arguments)
    {
        await using var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = binary,
            Arguments = arguments,
            StandardInput = new SafeFileHandle(0, ownsHandle: false),
        });
        var status = await child.Exited;
        return status.Code ?? 128 + status.Signal ?? ExitCodes.Failed;
    }
}
