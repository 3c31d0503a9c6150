using System.Text.Json;
using CprSharp.Memfd;
using CprSharp.VmmUpdate.Inspection;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Checks;

/// <summary>Compares the form of the device state that both binaries read and write for this machine type (<c>-dump-vmstate</c>).</summary>
internal static class VmStateCheck
{
    public static async Task<IReadOnlyList<Finding>> RunAsync(VmInspection vm, QemuBinary target, CancellationToken cancellationToken)
    {
        if (vm.Facts.Version == target.Version && vm.Facts.Package == target.Package)
            return [Finding.Pass("vmstate", vm.MachineType, $"both binaries are QEMU {target.Version}")];

        var dumps = await Task.WhenAll(
            DumpAsync(vm.Facts, vm.MachineType, cancellationToken),
            DumpAsync(target, vm.MachineType, cancellationToken));
        using var old = dumps[0];
        using var fresh = dumps[1];
        if (old is null || fresh is null)
        {
            return
            [
                Finding.Warn(
                    "vmstate", vm.MachineType, $"{(old is null ? vm.Facts.Path : target.Path)} does not dump the form of its device state (-dump-vmstate)",
                    "compatibility is seen only when the state is loaded; a failing load brings the guest back"),
            ];
        }

        var types = vm.Devices.Select(d => d.Type).ToHashSet(StringComparer.Ordinal);
        return [.. VmStateComparer.Compare(old.RootElement, fresh.RootElement, types)];
    }

    private static async Task<JsonDocument?> DumpAsync(QemuBinary binary, string machine, CancellationToken cancellationToken)
    {
        using var scratch = ScratchDirectory.Create();
        var path = Path.Combine(scratch.Directory.Path, "vmstate.json");
        using var log = File.OpenHandle(scratch.Directory.VmmLog(1), FileMode.Append, FileAccess.Write);
        await using var child = ChildProcess.Start(new ChildProcessStart
        {
            Path = binary.Executable ?? binary.Path,
            Argv0 = binary.Path,
            Arguments = ["-machine", machine, "-nodefaults", "-no-user-config", "-display", "none", "-dump-vmstate", path],
            StandardOutput = log,
            StandardError = log,
        });
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(TimeSpan.FromSeconds(20));
        try
        {
            var status = await child.Exited.WaitAsync(deadline.Token);
            if (status.Code != 0 || !File.Exists(path))
                return null;
        }
        catch (OperationCanceledException)
        {
            child.Signal(Qemu.Signals.Kill);
            await child.Exited;
            if (cancellationToken.IsCancellationRequested)
                throw;
            return null;
        }

        await using var file = File.OpenRead(path);
        return await JsonDocument.ParseAsync(file, default, cancellationToken);
    }
}
