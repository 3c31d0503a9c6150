using System.Runtime.CompilerServices;
using System.Xml.Linq;
using Xunit;

namespace CprSharp.VmmUpdate.Tests.Architecture;

/// <summary>Dependencies go downwards only: vmm-update on everything, iommufd on memfd, qmp and memfd on nothing of ours.</summary>
public sealed class DependencyTests
{
    private static readonly Dictionary<string, string[]> Allowed = new(StringComparer.Ordinal)
    {
        ["memfd"] = [],
        ["qmp"] = [],
        ["iommufd"] = ["memfd"],
        ["vmm-update"] = ["iommufd", "memfd", "qmp"],
    };

    public static TheoryData<string> Modules => [.. Allowed.Keys];

    [Theory]
    [MemberData(nameof(Modules))]
    public void A_module_refers_only_to_those_below_it(string module)
    {
        var project = Assert.Single(Directory.GetFiles(Path.Combine(Root(), module), "*.csproj"));
        var references = XDocument.Load(project).Descendants("ProjectReference")
            .Select(r => (string)r.Attribute("Include")!)
            .Select(path => Path.GetFileName(Path.GetDirectoryName(path.Replace('\\', '/')))!)
            .Order(StringComparer.Ordinal);

        Assert.Equal(Allowed[module], references);
    }

    [Fact]
    public void Every_module_of_the_design_is_there_and_no_other_project_stands_beside_them()
    {
        var projects = Directory.GetFiles(Root(), "*.csproj", SearchOption.AllDirectories)
            .Select(path => Path.GetRelativePath(Root(), path).Split('/')[0])
            .Where(top => top is not ("tests" or "integration-vm" or "artifacts"))
            .Order(StringComparer.Ordinal);

        Assert.Equal(Allowed.Keys.Order(StringComparer.Ordinal), projects);
    }

    [Theory]
    [InlineData(typeof(Memfd.SyscallException), new string[0])]
    [InlineData(typeof(Qmp.QmpClient), new string[0])]
    public void The_lower_assemblies_know_no_other_of_ours(Type type, string[] expected)
    {
        var ours = type.Assembly.GetReferencedAssemblies()
            .Select(a => a.Name!)
            .Where(n => n.StartsWith("CprSharp", StringComparison.Ordinal) || n == "cprsharp");

        Assert.Equal(expected, ours);
    }

    [Fact]
    public void Files_are_in_the_folder_that_their_namespace_names()
    {
        var strays = Directory.GetFiles(Path.Combine(Root(), "vmm-update"), "*.cs", SearchOption.AllDirectories)
            .Where(path => !path.Contains("/obj/", StringComparison.Ordinal) && !path.Contains("/bin/", StringComparison.Ordinal))
            .Select(path => (Folder: Path.GetDirectoryName(Path.GetRelativePath(Path.Combine(Root(), "vmm-update"), path))!, Text: File.ReadAllText(path), path))
            .Where(file => file.Folder.Length > 0
                && !file.Text.Contains($"namespace CprSharp.VmmUpdate.{file.Folder.Replace('/', '.')};", StringComparison.Ordinal))
            .Select(file => file.path);

        Assert.Empty(strays);
    }

    private static string Root([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "..", "..", ".."));
}
