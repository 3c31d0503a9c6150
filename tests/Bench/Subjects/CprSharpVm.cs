using System.Globalization;
using System.Text.Json;

namespace CprSharp.Bench.Subjects;

/// <summary>The same VM under CprSharp, driven by its command line.</summary>
internal sealed class CprSharpVm : IMeasuredVm
{
    private readonly Components _components;
    private readonly string _state;
    private readonly BareQmp _qmp;

    private CprSharpVm(Components components, string state, string name, BareQmp qmp)
    {
        _components = components;
        _state = state;
        Name = name;
        _qmp = qmp;
    }

    public string Name { get; }

    public int QemuPid => Record().GetProperty("pid").GetInt32();

    public int SupervisorPid => Record().GetProperty("supervisorPid").GetInt32();

    public string QmpSocket => Path.Combine(_state, Name, "qmp.sock");

    public static async Task<CprSharpVm> StartAsync(Components components, string state, VmShape shape, string name = "bench")
    {
        var serial = Path.Combine(state, $"{name}.serial");
        Directory.CreateDirectory(state);
        await ProgramRun.RunAsync(
            components.Program,
            [
                "run", "--state-dir", state, "--name", name, "--detach", "--", components.Qemu,
                "-machine", VmShape.Machine,
                "-m", shape.MemoryMiB.ToString(CultureInfo.InvariantCulture),
                .. shape.Arguments,
                .. GuestSerial.Arguments(shape, serial),
            ]);
        var vm = new CprSharpVm(components, state, name, BareQmp.Connect(Path.Combine(state, name, "qmp.sock")));
        if (shape.BootsLinux)
            await GuestSerial.WaitUntilReadyAsync(serial);
        return vm;
    }

    /// <summary>Total is the command's whole run, with its start-up and the check.</summary>
    public async Task<Sample> UpdateAsync(string engine)
    {
        var (output, took) = await ProgramRun.RunAsync(
            _components.Program,
            ["update", Name, "--state-dir", _state, "--to", _components.Qemu, "--engine", engine, "--json"]);
        return Sample.OfReport(output, took);
    }

    public void Rest() => _qmp.Execute("""{"execute":"stop"}""");

    public void Wake() => _qmp.Execute("""{"execute":"cont"}""");

    public async ValueTask DisposeAsync()
    {
        using var supervisor = Memfd.PidFd.Open(SupervisorPid);
        _qmp.Send("{\"execute\":\"quit\"}\n"u8);
        await supervisor.WaitForExitAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(20));
        _qmp.Dispose();
    }

    private JsonElement Record()
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_state, Name, "vm.json")));
        return document.RootElement.Clone();
    }
}
