using System.Text.Json;
using CprSharp.VmmUpdate.Checks;
using CprSharp.VmmUpdate.Reporting;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Checks;

public sealed class VmStateComparerTests
{
    [Theory]
    [InlineData(2, 1, 2, Severity.Pass)]
    [InlineData(2, 1, 3, Severity.Pass)]
    [InlineData(3, 1, 2, Severity.Fail)]
    [InlineData(1, 2, 3, Severity.Fail)]
    public void A_section_is_read_within_the_readers_versions(int written, int oldest, int newest, Severity expected)
    {
        var finding = Assert.Single(Compare(Dump("vga", written, 1), Dump("vga", newest, oldest), "vga"));

        Assert.Equal(expected, finding.Severity);
    }

    [Fact]
    public void A_device_without_description_in_the_new_binary_is_a_warning_that_names_it()
    {
        var finding = Assert.Single(Compare(Dump("vga", 1, 1), "{}", "vga"));

        Assert.Equal((Severity.Warn, "vga"), (finding.Severity, finding.Object));
    }

    [Fact]
    public void Devices_that_the_vm_does_not_have_do_not_matter() =>
        Assert.Equal(Severity.Pass, Assert.Single(Compare(Dump("vga", 9, 9), "{}", "e1000")).Severity);

    private static List<Finding> Compare(string old, string fresh, string type)
    {
        using var a = JsonDocument.Parse(old);
        using var b = JsonDocument.Parse(fresh);
        return [.. VmStateComparer.Compare(a.RootElement, b.RootElement, new HashSet<string> { type })];
    }

    private static string Dump(string type, int version, int minimum) =>
        $$"""{ "vmschkmachine": { "Name": "x" }, "{{type}}": { "Name": "{{type}}", "version_id": {{version}}, "minimum_version_id": {{minimum}} } }""";
}
