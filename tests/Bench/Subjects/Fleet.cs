using System.Globalization;
using System.Text.Json;

namespace CprSharp.Bench.Subjects;

/// <summary>Many VMs of one host, updated by one command; all of their guests run all the time.</summary>
internal sealed class Fleet : IAsyncDisposable
{
    private readonly Components _components;
    private readonly string _state;
    private readonly string[] _binaries;
    private readonly List<CprSharpVm> _vms = [];
    private int _current;

    private Fleet(Components components, string directory)
    {
        _components = components;
        _state = Path.Combine(directory, "state");
        _binaries = [components.Qemu, CopyQemu(components.Qemu, directory)];
    }

    public static async Task<Fleet> StartAsync(Components components, string directory, VmShape shape, int count)
    {
        Directory.CreateDirectory(directory);
        var fleet = new Fleet(components, directory);
        try
        {
            for (var i = 0; i < count; i++)
                fleet._vms.Add(await CprSharpVm.StartAsync(components, fleet._state, shape, string.Create(CultureInfo.InvariantCulture, $"vm{i:00}")));
            return fleet;
        }
        catch
        {
            await fleet.DisposeAsync();
            throw;
        }
    }

    /// <summary>Memory of all supervisors together in MiB, what they share counted once.</summary>
    public double SupervisorsMiB => _vms.Sum(vm => ProcessMemory.Of(vm.SupervisorPid).Pss);

    /// <summary>Updates all of them, so many at a time, to the other of two equal binaries.</summary>
    public async Task<FleetSample> UpdateAsync(int parallel)
    {
        _current = 1 - _current;
        var (output, took) = await ProgramRun.RunAsync(
            _components.Program,
            ["update", "--all", "--state-dir", _state, "--to", _binaries[_current], "--parallel", parallel.ToString(CultureInfo.InvariantCulture), "--json"]);
        using var report = JsonDocument.Parse(output);
        var updates = report.RootElement.GetProperty("vms").EnumerateArray().Select(v => v.GetProperty("update")).ToArray();
        return updates.Length == _vms.Count
            ? new FleetSample([.. updates.Select(u => u.GetProperty("pauseMs").GetDouble())], [.. updates.Select(u => u.GetProperty("totalMs").GetDouble())], took)
            : throw new InvalidOperationException($"{updates.Length} of {_vms.Count} VMs were updated");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var vm in _vms)
            await vm.DisposeAsync();
    }

    /// <summary>A VM that runs on the target already is left alone, so it takes two of them. QEMU looks for its firmware beside itself.</summary>
    private static string CopyQemu(string qemu, string directory)
    {
        var copy = Path.Combine(directory, Path.GetFileName(qemu));
        File.Copy(qemu, copy);
        if (Path.Combine(Path.GetDirectoryName(qemu)!, "qemu-bundle") is var bundle && Directory.Exists(bundle))
            Directory.CreateSymbolicLink(Path.Combine(directory, "qemu-bundle"), bundle);
        return copy;
    }
}

/// <summary>One update of all, in milliseconds.</summary>
/// <param name="Pauses">Each VM's pause, by name.</param>
/// <param name="Updates">Each VM's update, from the request to the end of the old QEMU.</param>
/// <param name="Took">The command's whole run.</param>
internal sealed record FleetSample(IReadOnlyList<double> Pauses, IReadOnlyList<double> Updates, double Took);
