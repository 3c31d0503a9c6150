using System.Globalization;
using System.Text.Json;
using CprSharp.Iommufd.Inventory;
using CprSharp.Memfd;
using CprSharp.Qmp;
using CprSharp.VmmUpdate.Inventory;
using CprSharp.VmmUpdate.Qemu;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;

namespace CprSharp.VmmUpdate.Cli;

/// <summary><c>cprsharp inventory</c>: what the passed-through devices of a VM can reach, and how sure that is.</summary>
internal sealed class InventoryCommand(CliContext cli)
{
    /// <param name="vm">A VM of ours by name, or the QMP socket of any QEMU by path.</param>
    /// <param name="cancellationToken">Cancels.</param>
    public async Task<int> RunAsync(string vm, CancellationToken cancellationToken)
    {
        await using var vmm = vm.Contains('/', StringComparison.Ordinal)
            ? await ForeignAsync(Path.GetFullPath(vm), cancellationToken)
            : await OwnAsync(cli.Find(vm), cancellationToken);
        var found = await ForeignVmmReader.ReadAsync(vmm, cancellationToken);
        var report = new InventoryReport(
            1,
            vmm.Pid,
            vmm.Version.ToString(),
            [.. found.AddressSpaces.Select(space => new InventorySpace(space.Iommufd, space.Ioas?.Value, [.. space.Areas.Select(Entry)]))],
            found.NotProbed);
        cli.Print(report, ReportJson.Printed.InventoryReport, cli.Terminal.Inventory);
        return ExitCodes.Done;
    }

    private static async Task<Vmm> ForeignAsync(string socket, CancellationToken cancellationToken)
    {
        var (qmp, pidFd) = await Adoption.ConnectAsync(socket, cancellationToken);
        return Vmm.FromForeign(1, ProcFs.ExecutablePath(pidFd.Pid) ?? "", socket, pidFd, qmp, "");
    }

    /// <summary>Through its supervisor, which passes on what it does not know.</summary>
    private static async Task<Vmm> OwnAsync(VmDirectory directory, CancellationToken cancellationToken)
    {
        await using (await VmConnection.OpenAsync(directory, cancellationToken)) { }
        var status = await CliContext.StatusOfAsync(directory, cancellationToken);
        var pidFd = PidFd.Open(status.Vmm.Pid);
        var qmp = new QmpClient();
        try
        {
            await qmp.ConnectAsync(UnixSocket.Connect(directory.QmpSocket), cancellationToken);
            return Vmm.FromForeign(1, status.Vmm.Binary, directory.QmpSocket, pidFd, qmp, "");
        }
        catch
        {
            await qmp.DisposeAsync();
            pidFd.Dispose();
            throw;
        }
    }

    private static InventoryEntry Entry(InventoryArea area) => new(
        Hex(area.Area.Range.Start),
        Hex(area.Area.Range.Last),
        area.Area.Range.Length,
        JsonNamingPolicy.CamelCase.ConvertName(area.Area.Access.ToString()),
        area.Bar is { } bar ? string.Create(CultureInfo.InvariantCulture, $"BAR {bar.Region} of {bar.Device} at 0x{bar.Part.Offset:x}") : area.Area.Backing.ToString()!,
        JsonNamingPolicy.CamelCase.ConvertName(area.Certainty.ToString()),
        area.Evidence);

    private static string Hex(ulong address) => string.Create(CultureInfo.InvariantCulture, $"0x{address:x}");
}
