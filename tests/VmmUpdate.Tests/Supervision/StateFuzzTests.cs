using System.Text;
using System.Text.Json;
using CprSharp.Tests;
using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.Replacement;
using CprSharp.VmmUpdate.Reporting;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

/// <summary>The files of a VM's directory, made from good ones: they are read, or refused with a reason.</summary>
public sealed class StateFuzzTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("cprsharp-test-").FullName;

    [Fact]
    public async Task Records_journals_and_histories_are_read_or_refused()
    {
        var directory = new VmDirectory(_root, "vm");
        directory.Create();
        VmFiles.Write(directory, new VmRecord
        {
            Name = "vm",
            Spec = new VmSpec { MachineType = "q", Options = [new SpecOption("m", "1")], Descriptors = [new GuestRamDescriptor(200, "r", 1), new ConsoleDescriptor(201, "c", new UnixAddress("/x"))] },
            Binary = "/q",
            Version = "1.2.3",
            Generation = 1,
            Pid = 2,
            StartTicks = 3,
            QmpPath = "/m",
            SupervisorPid = 4,
        });
        VmFiles.Write(directory, new UpdateJournal(1, "transfer", 1, 2, 4711, 99, "/usr/bin/qemu", WasRunning: true));
        UpdateHistory.Append(directory, new UpdateReport { Vm = "vm", Outcome = UpdateOutcome.Updated, From = new VmmEnd("1", "/a", 1), To = new VmmEnd("2", "/b", 2) });
        byte[][] records = [await File.ReadAllBytesAsync(directory.Record)], journals = [await File.ReadAllBytesAsync(directory.UpdateJournal)], histories = [await File.ReadAllBytesAsync(directory.History)];
        Fuzz.Run(500, random =>
        {
            Tolerate(() => File.WriteAllBytes(directory.Record, Fuzz.Mutate(random, records)), () => VmFiles.ReadRecord(directory));
            Tolerate(() => File.WriteAllBytes(directory.UpdateJournal, Fuzz.Mutate(random, journals)), () => VmFiles.ReadJournal(directory));
            File.WriteAllBytes(directory.History, [.. Fuzz.Mutate(random, histories), (byte)'\n', .. histories[0]]);
            Assert.NotEmpty(UpdateHistory.ReadAsync(directory).GetAwaiter().GetResult());
        });
    }

    [Fact]
    public void A_supervisors_state_is_read_or_refused()
    {
        byte[][] corpus = [Encoding.UTF8.GetBytes("""{"schema":1,"stateDirectory":"/s","record":{"name":"v"},"vmm":{"generation":1},"held":{"descriptors":[{"number":1,"descriptor":2}],"taps":[]},"consoles":[{"id":"c","door":1}],"listeners":[1],"clients":[{"socket":1,"connection":{"input":{"bytes":"AAAA"}}}],"lock":1,"from":{"version":"1","binary":"/b"},"to":"/t","pausedAt":1}""")];
        Fuzz.Run(5_000, random =>
        {
            try
            {
                _ = JsonSerializer.Deserialize(Fuzz.Mutate(random, corpus), SupervisorStateJson.Default.SupervisorState);
            }
            catch (Exception e) when (e is JsonException or NotSupportedException)
            {
                // Which is the answer.
            }
        });
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static void Tolerate(Action write, Action read)
    {
        write();
        try
        {
            read();
        }
        catch (UpdateException e)
        {
            Assert.NotEmpty(e.Message);
        }
    }
}
