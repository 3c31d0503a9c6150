using CprSharp.VmmUpdate.CommandLine;
using Xunit;
using static CprSharp.VmmUpdate.Tests.CommandLine.TestFacts;

namespace CprSharp.VmmUpdate.Tests.CommandLine;

public sealed class QemuCommandLineTests
{
    [Fact]
    public void One_dash_and_two_are_the_same_and_images_stand_alone()
    {
        QemuCommandLine line = QemuCommandLine.Parse(Words("--enable-kvm -m 2G disk.qcow2 --append '-foo bar'"));
        Assert.Equal([new("enable-kvm", null), new("m", "2G"), new("append", "-foo bar")], line.Options);
        Assert.Equal(["disk.qcow2"], line.Images);
        Assert.Equal(["-enable-kvm", "-m", "2G", "-append", "-foo bar", "disk.qcow2"], line.ToArguments());
    }

    [Theory]
    [InlineData("-m 1G -frobnicate", "-frobnicate")]
    [InlineData("-", "-")]
    [InlineData("-smp 2 -m", "-m")]
    public void A_wrong_option_is_named(string line, string option) =>
        Assert.Equal(option, Assert.Throws<CommandLineException>(() => QemuCommandLine.Parse(Words(line))).Option);

    [Theory]
    [InlineData("2G", 'M', 2L << 30)]
    [InlineData("512", 'M', 512L << 20)]
    [InlineData("512", 'B', 512L)]
    [InlineData("1.5G", 'B', 3L << 29)]
    [InlineData("2048m", 'B', 2L << 30)]
    [InlineData("0x1000", 'B', 4096L)]
    [InlineData("0xABE", 'B', 0xABEL)]
    [InlineData("0x10", 'M', 16L << 20)]
    [InlineData("1T", 'B', 1L << 40)]
    [InlineData("0", 'M', 0L)]
    public void A_size_is_read_as_qemu_reads_it(string text, char suffix, long bytes)
    {
        Assert.True(QemuSize.TryParse(text, suffix, out long read));
        Assert.Equal(bytes, read);
    }

    [Theory]
    [InlineData("")]
    [InlineData("G")]
    [InlineData("-1")]
    [InlineData("1X")]
    [InlineData("1 G")]
    [InlineData("9E")]
    [InlineData("99999999999999999999999999999E")]
    [InlineData("79228162514264337593543950335E")]
    public void What_is_no_size_is_refused(string text) => Assert.False(QemuSize.TryParse(text, 'B', out _));

    [Theory]
    [InlineData("-version")]
    [InlineData("-h")]
    [InlineData("--help")]
    [InlineData("-M help")]
    [InlineData("-machine q35,help")]
    [InlineData("-machine none -nodefaults -device help")]
    [InlineData("-device virtio-net-pci,help")]
    [InlineData("-cpu help")]
    [InlineData("-cpu ?")]
    [InlineData("-nic model=help")]
    [InlineData("-accel help")]
    [InlineData("-object memory-backend-file,help")]
    [InlineData("-dump-vmstate f.json")]
    public void A_question_is_passed_through(string line)
    {
        LaunchTranslation translation = Launch.Translate(QemuCommandLine.Parse(Words(line)), Qemu11);
        Assert.True(translation.IsPassthrough);
        Assert.Equal(QemuCommandLine.Parse(Words(line)).ToArguments(), translation.Arguments);
    }

    [Theory]
    [InlineData("-append help")]
    [InlineData("-name help")]
    [InlineData("""-device {"driver":"e1000","id":"help"}""")]
    public void A_vm_is_not_taken_for_a_question(string line) =>
        Assert.False(Launch.StartsNoGuest(QemuCommandLine.Parse(Words(line))));
}
