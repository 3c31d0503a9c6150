using System.Text;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

public sealed class UpdateHistoryTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("cprsharp-test-").FullName;

    public static TheoryData<byte[]> Damages => new(
        Encoding.BigEndianUnicode.GetPreamble(), Encoding.Unicode.GetPreamble(), Encoding.UTF32.GetPreamble(), Encoding.UTF8.GetPreamble(), [0, 0xff, (byte)'{'], "{\"vm\":"u8.ToArray());

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task A_damaged_line_hides_no_other(byte[] damage)
    {
        var directory = new VmDirectory(_root, "vm");
        directory.Create();
        await File.WriteAllBytesAsync(directory.History, [.. damage, (byte)'\n'], TestContext.Current.CancellationToken);
        UpdateHistory.Append(directory, new UpdateReport { Vm = "vm", Outcome = UpdateOutcome.Updated, From = new VmmEnd("1", "/a", 1), To = new VmmEnd("2", "/b", 2) });

        Assert.Equal("2", Assert.Single(await UpdateHistory.ReadAsync(directory)).To.Version);
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);
}
