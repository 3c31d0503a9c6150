using System.Buffers.Binary;
using CprSharp.Iommufd.Inventory;
using CprSharp.Iommufd.Journal;
using CprSharp.Iommufd.Model;
using CprSharp.Iommufd.Tests.Model;
using CprSharp.Memfd;
using FsCheck;
using FsCheck.Fluent;
using Microsoft.Win32.SafeHandles;
using Xunit;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Iommufd.Tests.Journal;

public sealed class JournalTests
{
    private static readonly IoasId One = new(1);

    [Fact]
    public void Every_call_comes_back_as_it_was_written()
    {
        Prop.ForAll(Generators.Any.ToArbitrary(), operation =>
        {
            using var file = MemoryFile.Create("journal", 0);
            JournalWriter.Create(file).Begin(operation);
            return JournalReader.Read(file).Unsettled.Single().Operation.Equals(operation);
        }).Check(Generators.Quick);
    }

    [Fact]
    public void A_journal_gives_the_picture_that_the_calls_give()
    {
        Prop.ForAll(Generators.History.ToArbitrary(), history =>
        {
            using var file = Write(history);
            var content = JournalReader.Read(file);
            return content is { Torn: false, Unsettled.IsEmpty: true } && Differences.Between(Generators.Picture(history), content.Picture).IsEmpty;
        }).Check(Generators.Quick);
    }

    /// <summary>Where nothing can be written any more: a call that is made stays in doubt, and none begins.</summary>
    [Fact]
    public void A_full_journal_lets_no_call_begin_and_does_not_belie_the_one_that_is_made()
    {
        using var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        journal.Done(journal.Begin(new AllocateIoasOperation()), 1);
        var made = journal.Begin(new AllocateIoasOperation());
        var length = RandomAccess.GetLength(file);
        MemoryFile.AddSeals(file, Seals.Grow);

        journal.Done(made, 2);
        Assert.Throws<UnauthorizedAccessException>(() => journal.Begin(new AllocateIoasOperation()));
        Assert.Throws<UnauthorizedAccessException>(() => journal.Begin(new AllocateIoasOperation()));

        var content = JournalReader.Read(file);
        Assert.Equal([made], content.Unsettled.Select(one => one.Sequence));
        Assert.Equal([1u], content.Picture.Ioases.Keys);
        Assert.Equal((length, length), (content.Length, RandomAccess.GetLength(file)));
    }

    [Fact]
    public void Cut_anywhere_it_gives_the_picture_of_what_was_complete_and_can_be_continued()
    {
        var cases = from history in Generators.History from cut in Gen.Choose(0, 1_000_000) select (history, cut);
        Prop.ForAll(cases.ToArbitrary(), c =>
        {
            using var file = Write(c.history);
            var length = RandomAccess.GetLength(file);
            RandomAccess.SetLength(file, 16 + c.cut % (length - 15));
            var content = JournalReader.Read(file);
            // Without the calls whose end is not there.
            var complete = c.history.Take((int)content.LastSequence - content.Unsettled.Length);
            if (!Differences.Between(Generators.Picture(complete), content.Picture).IsEmpty || content.Unsettled.Length > 1)
                return false;

            var journal = JournalWriter.Continue(file, out var sofar);
            journal.Done(journal.Begin(new AllocateIoasOperation()), 77);
            var after = JournalReader.Read(file);
            return !after.Torn && after.Picture.Ioases.ContainsKey(77) && after.LastSequence == sofar.LastSequence + 1
                && after.Unsettled.Length == content.Unsettled.Length;
        }).Check(Generators.Quick);
    }

    [Fact]
    public void A_damaged_byte_before_the_last_record_is_found()
    {
        using var file = Write([(new AllocateIoasOperation(), 1), (Map(0), 0), (Map(8), 8 * Generators.Page)]);
        var bytes = Bytes(file);
        var last = JournalWriter.Record(RecordKind.Done, 3, new byte[8]).Length;
        for (var i = 16; i < bytes.Length - last; i++)
        {
            var damaged = (byte[])bytes.Clone();
            damaged[i] ^= 0x10;
            // A length that reaches beyond the end looks like a torn record, which says so.
            var content = default(JournalContent);
            var thrown = Record.Exception(() => content = JournalReader.Parse(damaged));
            Assert.True(thrown is JournalException || content!.Torn, $"byte {i}");
        }
    }

    [Fact]
    public void A_call_without_an_end_is_unsettled_and_one_that_failed_never_happened()
    {
        using var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        journal.Done(journal.Begin(new AllocateIoasOperation()), 1);
        var lost = journal.Begin(Map(0));
        journal.Failed(journal.Begin(Map(8)), 12);

        var content = JournalReader.Read(file);

        Assert.Empty(content.Picture.Areas);
        Assert.Equal(new UnsettledOperation(lost, Map(0)), Assert.Single(content.Unsettled));
    }

    [Fact]
    public void A_newer_major_version_is_refused_and_an_older_one_and_a_newer_minor_one_are_read()
    {
        using var file = Write([(new AllocateIoasOperation(), 1), (Map(0), 0)]);

        Assert.Single(JournalReader.Parse(WithVersion(0, 7)).Picture.Areas);
        Assert.Single(JournalReader.Parse(WithVersion(1, 9)).Picture.Areas);
        Assert.Contains("version 2.0", Assert.Throws<JournalException>(() => JournalReader.Parse(WithVersion(2, 0))).Message, StringComparison.Ordinal);

        // What can be read is not always what can be continued.
        RandomAccess.Write(file, WithVersion(1, 9), 0);
        Assert.Throws<JournalException>(() => JournalWriter.Continue(file, out _));

        byte[] WithVersion(ushort major, ushort minor)
        {
            var bytes = Bytes(file);
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), major);
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(10), minor);
            return bytes;
        }
    }

    [Fact]
    public void Fields_that_are_missing_are_zero_and_those_too_many_are_passed_over()
    {
        using var file = Write([(new AllocateIoasOperation(), 1)]);
        // An older writer without the pid's counterpart, a newer one with more fields, and a kind that may be skipped.
        byte[] bytes =
        [
            .. Bytes(file),
            .. JournalWriter.Record(RecordKind.MapVirtual, 2, new FieldWriter().U32(1).U32(4).Optional(0).U64(4096).U32(17).Written),
            .. JournalWriter.Record(RecordKind.Done, 2, new FieldWriter().U64(0).U64(99).Written),
            .. JournalWriter.Record((RecordKind)0x8001, 3, [1, 2, 3]),
        ];

        var content = JournalReader.Parse(bytes);

        Assert.Equal(new VirtualBacking(17, 0), Assert.Single(content.Picture.Areas).Area.Backing);
        Assert.Throws<JournalException>(() => JournalReader.Parse([.. bytes, .. JournalWriter.Record((RecordKind)0x7001, 4, [])]));
    }

    [Fact]
    public void What_is_no_journal_or_contradicts_itself_is_refused()
    {
        using var file = Write([(new AllocateIoasOperation(), 1)]);
        byte[] bytes = Bytes(file);

        Assert.Throws<JournalException>(() => JournalReader.Parse([]));
        Assert.Throws<JournalException>(() => JournalReader.Parse("CPRIOMM?\u0001\0\0\0\u0010\0\0\0"u8));
        Assert.Throws<JournalException>(() => JournalReader.Parse([.. bytes, .. JournalWriter.Record(RecordKind.Done, 9, new byte[8])]));
        Assert.Throws<JournalException>(() => JournalReader.Parse(
            [.. bytes, .. JournalWriter.Record(RecordKind.Unmap, 2, new FieldWriter().U32(9).U64(0).U64(4095).Written), .. JournalWriter.Record(RecordKind.Done, 2, new byte[8])]));
        Assert.Throws<JournalException>(() => JournalReader.Parse([.. bytes, .. JournalWriter.Record(RecordKind.AllowIovas, 2, new FieldWriter().U32(1).U32(uint.MaxValue).Written)]));
        Assert.Throws<IOException>(() => JournalWriter.Create(file));
    }

    [Fact]
    public void Random_bytes_never_lead_to_anything_but_a_refusal()
    {
        var cases = from bytes in Gen.ArrayOf(Gen.Choose(0, 255).Select(i => (byte)i)) select bytes;
        Prop.ForAll(cases.ToArbitrary(), random =>
        {
            byte[] journal = [.. JournalFormat.Magic, 1, 0, 0, 0, 16, 0, 0, 0, .. random];
            var thrown = Record.Exception(() => JournalReader.Parse(journal));
            return thrown is null or JournalException;
        }).Check(Generators.Quick);
    }

    [Fact]
    public async Task Threads_write_whole_records()
    {
        using var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        journal.Done(journal.Begin(new AllocateIoasOperation()), 1);

        await Task.WhenAll(Enumerable.Range(0, 4).Select(t => Task.Run(() =>
        {
            for (ulong i = 0; i < 200; i++)
            {
                var page = ((ulong)t * 200 + i) * 2;
                journal.Done(journal.Begin(Map(page)), page * Generators.Page);
            }
        })));

        Assert.Equal(800, JournalReader.Read(file).Picture.Areas.Count());
    }

    private static MapOperation Map(ulong page) =>
        new(One, page * Generators.Page, Generators.Page, MapAccess.ReadWrite, new FileBacking(new FileIdentity(new Memfd.DeviceNumber(0, 1), 5), 0));

    private static SafeFileHandle Write(IEnumerable<(Operation Operation, ulong Answer)> history)
    {
        var file = MemoryFile.Create("journal", 0);
        var journal = JournalWriter.Create(file);
        foreach (var (operation, answer) in history)
            journal.Done(journal.Begin(operation), answer);
        return file;
    }

    private static byte[] Bytes(SafeFileHandle file)
    {
        var bytes = new byte[RandomAccess.GetLength(file)];
        RandomAccess.Read(file, bytes, 0);
        return bytes;
    }
}
