using System.Globalization;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Xunit;

namespace CprSharp.Memfd.Tests;

public sealed class ProcParserTests
{
    private static readonly Gen<ulong> Word = Gen.Choose(0, int.MaxValue).Two().Select(pair => (ulong)pair.Item1 << 31 | (uint)pair.Item2);

    private static readonly Gen<string> Text =
        Gen.Elements("a", "Z", " ", ":", "=", "(", ")", "\n", "\\", "ü", "/", "-", "0").ListOf().Select(parts => string.Concat(parts));

    [Fact]
    public void Maps_come_back_from_the_kernels_format()
    {
        var entry =
            from start in Word
            from length in Word
            from offset in Word
            from inode in Word
            from device in Gen.Choose(0, 0xFFFFF).Two()
            from protection in Gen.Choose(0, 7)
            from shared in Gen.Elements(true, false)
            from path in Gen.OneOf(Gen.Constant((string?)null), Text.Select(t => (string?)("/" + t)), Gen.Constant((string?)"[heap]"))
            select new MapEntry(
                start, start + length, (MappingProtection)protection, shared, offset, new DeviceNumber((uint)device.Item1, (uint)device.Item2), inode, path);

        Prop.ForAll(
            entry.ListOf().Select(entries => entries.ToArray()).ToArbitrary(),
            entries => ProcParser.Maps(string.Concat(entries.Select(Line))).SequenceEqual(entries))
            .QuickCheckThrowOnFailure();

        // fs/proc/task_mmu.c: show_map_vma; the path starts at column 73 and has its line feeds escaped.
        static string Line(MapEntry m)
        {
            var permissions = new string(
            [
                m.Protection.HasFlag(MappingProtection.Read) ? 'r' : '-',
                m.Protection.HasFlag(MappingProtection.Write) ? 'w' : '-',
                m.Protection.HasFlag(MappingProtection.Execute) ? 'x' : '-',
                m.Shared ? 's' : 'p',
            ]);
            var front = $"{m.Start:x8}-{m.End:x8} {permissions} {m.Offset:x8} {m.Device.Major:x2}:{m.Device.Minor:x2} {m.Inode} ";
            return (m.Path is null ? front : front.PadRight(73) + m.Path.Replace("\n", "\\012", StringComparison.Ordinal)) + "\n";
        }
    }

    [Fact]
    public void Arguments_come_back_whatever_they_hold()
    {
        Prop.ForAll(
            Text.NonEmptyListOf().Select(list => list.ToArray()).ToArbitrary(),
            arguments => ProcParser.NulTerminated(Encoding.UTF8.GetBytes(string.Join('\0', arguments) + "\0")).SequenceEqual(arguments))
            .QuickCheckThrowOnFailure();
        Assert.Equal(["qemu: rewritten title"], ProcParser.NulTerminated("qemu: rewritten title"u8));
        Assert.Empty(ProcParser.NulTerminated([]));
    }

    [Fact]
    public void The_start_time_is_found_behind_any_command_name() =>
        Prop.ForAll(
            Text.Zip(Word).ToArbitrary(),
            pair =>
            {
                var between = string.Join(' ', Enumerable.Range(4, 18).Select(field => field.ToString(CultureInfo.InvariantCulture)));
                var stat = $"1 ({pair.Item1}) S {between} {pair.Item2} 23 24\n";
                return ProcParser.StartTimeTicks(stat) == (long)pair.Item2;
            })
            .QuickCheckThrowOnFailure();

    [Fact]
    public void Environment_keeps_the_first_of_two_and_skips_what_is_no_variable()
    {
        var variables = ProcParser.Environment("A=1\0A=2\0=x\0novalue\0B=\0C==\0"u8);

        Assert.Equal(new Dictionary<string, string> { ["A"] = "1", ["B"] = "", ["C"] = "=" }, variables);
    }

    [Fact]
    public void Repeated_keys_are_joined()
    {
        var values = ProcParser.KeyValues("pos:\t0\ntfd: 5 events: 1\ntfd: 6 events: 1\nno colon\n");

        Assert.Equal(new Dictionary<string, string> { ["pos"] = "0", ["tfd"] = "5 events: 1\n6 events: 1" }, values);
    }

    [Fact]
    public void Cgroup_paths_may_hold_colons()
    {
        var entries = ProcParser.Cgroups("4:cpu,cpuacct:/a:b\n0::/machine.slice/qemu-1\n");

        Assert.Equal([new CgroupEntry(4, "cpu,cpuacct", "/a:b"), new CgroupEntry(0, "", "/machine.slice/qemu-1")], entries);
    }

    [Fact]
    public void Limits_without_end_are_unlimited()
    {
        const string text = """
            Limit                     Soft Limit           Hard Limit           Units
            Max cpu time              unlimited            unlimited            seconds
            Max open files            1024                 524288               files
            Max realtime timeout      7                    unlimited            us
            """;

        var limits = ProcParser.Limits(text);

        Assert.Equal(3, limits.Count);
        Assert.Equal("unlimited/unlimited", limits[Resource.CpuTime].ToString());
        Assert.Equal(new ResourceLimit(1024, 524288), limits[Resource.OpenFiles]);
        Assert.Equal(new ResourceLimit(7, ResourceLimit.Unlimited), limits[Resource.RealtimeTimeout]);
    }

    [Fact]
    public void A_line_that_is_no_mapping_is_refused() => Assert.Throws<FormatException>(() => ProcParser.Maps("garbage\n"));
}
