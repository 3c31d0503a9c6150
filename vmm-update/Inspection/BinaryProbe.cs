using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Nodes;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Hosting;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;

namespace CprSharp.VmmUpdate.Inspection;

/// <summary>Starts a binary without a machine and asks it what it is.</summary>
internal static class BinaryProbe
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <summary>What the binary can do, and the properties of one of its machine types.</summary>
    /// <exception cref="UpdateException">It is not there, not executable, or not QEMU.</exception>
    /// <param name="path">The executable.</param>
    /// <param name="selectMachine">Picks the machine type whose properties are wanted from those the binary has.</param>
    /// <param name="cancellationToken">Cancels.</param>
    /// <param name="executable">The file to execute where it is not whatever the path leads to.</param>
    public static async Task<QemuBinary> ProbeAsync(
        string path, Func<IReadOnlyList<MachineType>, string?> selectMachine, CancellationToken cancellationToken, string? executable = null)
    {
        RequireExecutable(path);
        return await WithMonitorAsync(path, executable, async (vmm, token) =>
        {
            var version = vmm.Qmp.Greeting!;
            var listed = await vmm.ExecuteAsync("query-machines", token);
            ImmutableArray<MachineType> machines = [.. listed.EnumerateArray().Select(ToMachine).OrderBy(m => m.Name, StringComparer.Ordinal)];
            var schema = await QmpSchema.QueryAsync(vmm.Qmp, token);
            var machine = selectMachine(machines);
            var properties = machines.Any(m => m.Name == machine) ? await MachinePropertiesAsync(vmm, machine!, token) : [];
            return new QemuBinary(path, vmm.Version, version.Package, machines, schema, properties);
        }, cancellationToken);
    }

    private static async Task<ImmutableHashSet<string>> MachinePropertiesAsync(Vmm vmm, string machine, CancellationToken cancellationToken)
    {
        var properties = await vmm.ExecuteAsync("qom-list-properties", new JsonObject { ["typename"] = $"{machine}-machine" }, cancellationToken);
        return properties.EnumerateArray().Select(p => p.GetProperty("name").GetString()!).ToImmutableHashSet(StringComparer.Ordinal);
    }

    private static async Task<T> WithMonitorAsync<T>(string path, string? executable, Func<Vmm, CancellationToken, Task<T>> ask, CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(Deadline);
        using var scratch = ScratchDirectory.Create();
        Vmm? vmm = null;
        try
        {
            var start = new VmmStart(1, path, ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S"], []) { Detached = true, Executable = executable };
            vmm = VmmLauncher.Start(start, scratch.Directory);
            await vmm.ConnectAsync(deadline.Token);
            return await ask(vmm, deadline.Token);
        }
        catch (SyscallException e) when (e.Errno is Errno.EACCES or Errno.EPERM)
        {
            throw new UpdateException("binary-not-allowed", $"{path} may not be executed: {e.Message}{HostFacts.ConfinedAs()}", "allow it to the user and the security label that the supervisor runs under; for libvirt's domains see docs/libvirt.md", e);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw NotQemu(path, $"it did not answer on QMP within {Deadline.TotalSeconds:0} s");
        }
        catch (VmmExitedException e)
        {
            throw NotQemu(path, $"started with -machine none it ended ({e.Status}){(e.LogTail.Length > 0 ? $": {e.LogTail}" : "")}");
        }
        catch (QmpConnectionException e)
        {
            throw NotQemu(path, e.Message);
        }
        finally
        {
            if (vmm is not null)
            {
                await vmm.KillAsync();
                await vmm.DisposeAsync();
            }
        }
    }

    private static UpdateException NotQemu(string path, string why) =>
        new("binary-not-qemu", $"{path} is not a QEMU system emulator that can be used: {why}", "give the path of a qemu-system-… executable of this host's architecture");

    private static void RequireExecutable(string path)
    {
        if (!File.Exists(path))
            throw new UpdateException("binary-missing", $"{path} does not exist or is not a file", "give the path of an installed qemu-system-… executable");

        const UnixFileMode anyExecute = UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
        if ((File.GetUnixFileMode(path) & anyExecute) == UnixFileMode.None)
            throw new UpdateException("binary-not-executable", $"{path} is not executable", $"chmod a+x {path}, or give another path");
    }

    private static MachineType ToMachine(JsonElement m) => new(
        m.GetProperty("name").GetString()!,
        m.TryGetProperty("alias", out var alias) ? alias.GetString() : null,
        m.TryGetProperty("is-default", out var isDefault) && isDefault.GetBoolean(),
        m.TryGetProperty("deprecated", out var deprecated) && deprecated.GetBoolean(),
        m.TryGetProperty("cpu-max", out var max) ? max.GetInt32() : 1,
        m.TryGetProperty("default-ram-id", out var ram) ? ram.GetString() : null,
        m.TryGetProperty("default-cpu-type", out var cpu) ? cpu.GetString() : null);
}
