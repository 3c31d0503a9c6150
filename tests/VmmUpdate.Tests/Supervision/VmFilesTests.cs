using CprSharp.VmmUpdate.CommandLine;
using CprSharp.VmmUpdate.PassThrough;
using CprSharp.VmmUpdate.Supervision;
using CprSharp.VmmUpdate.Update;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Supervision;

public sealed class VmFilesTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("cprsharp-test-").FullName;
    private readonly VmDirectory _directory;

    public VmFilesTests()
    {
        _directory = new VmDirectory(_root, "vm");
        _directory.Create();
    }

    [Fact]
    public void A_record_survives_the_way_through_its_file()
    {
        var record = Record();
        VmFiles.Write(_directory, record);

        var read = VmFiles.ReadRecord(_directory)!;

        Assert.Equal(record with { Spec = read.Spec }, read);
        Assert.Equal(record.Spec.Options.AsEnumerable(), read.Spec.Options);
        Assert.Equal(record.Spec.Descriptors.AsEnumerable(), read.Spec.Descriptors);
    }

    [Fact]
    public void A_journal_that_a_killed_supervisor_has_not_finished_goes_with_the_journal()
    {
        File.WriteAllText(_directory.UpdateJournal + ".new", "{");

        VmFiles.Write(_directory, (UpdateJournal?)null);

        Assert.Empty(Directory.EnumerateFileSystemEntries(_directory.Path));
    }

    [Fact]
    public void Everything_that_the_second_form_has_survives_too()
    {
        var spec = Record().Spec with
        {
            Descriptors =
            [
                new ConsoleDescriptor(203, "serial0", new TerminalAddress("/tmp/pty"), Wait: true, Telnet: true, Monitor: true),
                new ConsoleDescriptor(204, "serial1", new TcpAddress("localhost", "5000", To: 5010, Ipv4: true)),
                new TapDescriptor(205, 206, "net0", new TapInterface("tap0", "/up", null, VnetHeader: true, MultiQueue: true)),
                new TapDescriptor(208, 209, "net1", new TapHelper(null, "br0")),
                new TapDescriptor(211, 212, "net2", new TapInherited()),
                new ListenerDescriptor(214, "qmp", new UnixAddress("name", Abstract: true, Tight: false)),
            ],
            Findings = [new SpecFinding("tpm", FindingSeverity.Fail, "tpm0", "one VMM at a time", "none")],
            AfterCommit = [new AfterCommitAction("human-monitor-command", "{}", "why")],
            InheritedDescriptors = [5],
            PidFile = "/run/pid",
        };
        var record = Record() with { Spec = spec, PreviousBinary = "/old", LastEngine = "transfer", LastOutcome = "updated", LastPauseMs = 7.25, LastUpdate = DateTimeOffset.UnixEpoch, Adopted = true, Detached = true };
        Assert.Equal(2, record.Schema);
        VmFiles.Write(_directory, record);
        var read = VmFiles.ReadRecord(_directory)!;

        Assert.Equal(record with { Spec = read.Spec }, read);
        Assert.Equal(spec.Descriptors.AsEnumerable(), read.Spec.Descriptors);
        Assert.Equal(spec.Findings.AsEnumerable(), read.Spec.Findings);
        Assert.Equal(spec.AfterCommit.AsEnumerable(), read.Spec.AfterCommit);
        Assert.Equal(spec.InheritedDescriptors.AsEnumerable(), read.Spec.InheritedDescriptors);
        Assert.Equal(spec.PidFile, read.Spec.PidFile);
    }

    [Fact]
    public void A_record_of_the_first_form_is_read()
    {
        VmFiles.Write(_directory, Record() with { Schema = 1 });

        Assert.Equal(Record().Name, VmFiles.ReadRecord(_directory)!.Name);
    }

    [Fact]
    public void A_record_of_a_newer_form_is_refused()
    {
        VmFiles.Write(_directory, Record());
        var text = File.ReadAllText(_directory.Record).Replace("\"schema\": 2,\n  \"name\"", "\"schema\": 9,\n  \"name\"", StringComparison.Ordinal);
        File.WriteAllText(_directory.Record, text);

        Assert.Equal("state-newer", Assert.Throws<UpdateException>(() => VmFiles.ReadRecord(_directory)).Code);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    public void A_damaged_record_is_said_to_be_damaged(string text)
    {
        File.WriteAllText(_directory.Record, text);

        Assert.Equal("state-damaged", Assert.Throws<UpdateException>(() => VmFiles.ReadRecord(_directory)).Code);
    }

    [Fact]
    public void No_record_is_null() => Assert.Null(VmFiles.ReadRecord(_directory));

    [Fact]
    public void The_journal_goes_when_the_update_is_over()
    {
        var journal = new UpdateJournal(1, "transfer", 1, 2, 4711, 99, "/usr/bin/qemu", WasRunning: true);
        VmFiles.Write(_directory, journal);
        Assert.Equal(journal, VmFiles.ReadJournal(_directory));

        VmFiles.Write(_directory, (UpdateJournal?)null);

        Assert.Null(VmFiles.ReadJournal(_directory));
    }

    [Fact]
    public void The_journal_knows_what_was_taken_out_and_whether_the_old_VMM_can_resume()
    {
        TakenOutBar[] taken = [new(21, 2, 0xfebf_0000, 0x4000, "nvme", "0000:00:14.0", 0, 0), new(21, 2, 0xfffe_0000_0000, 1UL << 40, "gpu", "0000:01:00.0", 2, 0x1000)];
        VmFiles.Write(_directory, new UpdateJournal(1, "transfer", 1, 2, 4711, 99, "/usr/bin/qemu", WasRunning: true, CompletionIsFinal: true, TakenOut: taken));

        var read = VmFiles.ReadJournal(_directory)!;

        Assert.True(read.CompletionIsFinal);
        Assert.Equal(taken, read.TakenOut);
    }

    [Fact]
    public void A_journal_from_before_there_were_such_things_is_read()
    {
        File.WriteAllText(_directory.UpdateJournal, """{"schema":1,"engine":"transfer","oldGeneration":1,"newGeneration":2,"newPid":3,"newStartTicks":4,"newBinary":"/q","wasRunning":true}""");

        Assert.Equal(new UpdateJournal(1, "transfer", 1, 2, 3, 4, "/q", WasRunning: true, NewVersion: ""), VmFiles.ReadJournal(_directory)! with { NewVersion = "" });
    }

    [Theory]
    [InlineData("web1", true)]
    [InlineData("a.b_c-d+e", true)]
    [InlineData("", false)]
    [InlineData("-x", false)]
    [InlineData(".hidden", false)]
    [InlineData("a/b", false)]
    [InlineData("..", false)]
    [InlineData("a b", false)]
    public void A_name_is_a_file_name(string name, bool good)
    {
        if (good)
            VmDirectory.ValidateName(name);
        else
            Assert.Throws<ArgumentException>(() => VmDirectory.ValidateName(name));
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static VmRecord Record() => new()
    {
        Name = "vm",
        Spec = new VmSpec
        {
            MachineType = "pc-q35-10.0",
            Options = [new SpecOption("machine", "pc-q35-10.0"), new SpecOption("S", null, Scope: OptionScope.FirstStart)],
            Descriptors = [new GuestRamDescriptor(200, "pc.ram", 1L << 29), new ListenerDescriptor(201, "mon", new UnixAddress("/x"))],
        },
        Binary = "/usr/bin/qemu",
        Version = "10.0.13",
        Generation = 3,
        Pid = 4711,
        StartTicks = 12345,
        QmpPath = "/x/vmm-3.qmp",
        SupervisorPid = 1,
    };
}
