using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>What <c>make publish</c> leaves: the trimmer is a program, too, and has had a fault (dotnet/runtime issue 131088).</summary>
public sealed class PublishedProgramTests
{
    [Fact]
    public void NoMethodHasLostAHandlerOfAnExceptionOrTheEndOfALock()
    {
        // Ours alone: of the runtime's it takes whole methods away for features that are off.
        var trimmed = Directory.GetFiles(Intermediate("obj", "linked"), "cprsharp*.dll", new EnumerationOptions { MatchCasing = MatchCasing.CaseInsensitive });
        Assert.Equal(4, trimmed.Length);

        var lost = new List<string>();
        var compared = 0;
        foreach (var file in trimmed)
        {
            var before = Regions(Intermediate("bin", Path.GetFileName(file))).ToLookup(static m => m.Name, static m => m.Regions);
            foreach (var method in Regions(file))
            {
                if (!before[method.Name].Contains(method.Regions))
                    lost.Add($"{Path.GetFileName(file)} {method.Name}: {string.Join(" or ", before[method.Name])} -> {method.Regions}");
                compared++;
            }
        }

        Assert.Empty(lost);
        Assert.True(compared > 2000, $"{compared} methods alone were compared");
    }

    /// <summary>What <c>make publish</c> leaves beside the program.</summary>
    private static string Intermediate(string folder, string name)
    {
        var configuration = Environment.GetEnvironmentVariable("CONFIGURATION") ?? "Release";
        return Components.OfRepository($"artifacts/publish/{folder}/CprSharp.VmmUpdate/{configuration.ToLowerInvariant()}_linux-x64/{name}");
    }

    /// <summary>The number of try blocks with a handler of each method that has a body.</summary>
    private static IEnumerable<(string Name, int Regions)> Regions(string assembly)
    {
        using var file = new PEReader(File.OpenRead(assembly));
        var metadata = file.GetMetadataReader();
        foreach (var definition in metadata.MethodDefinitions.Select(metadata.GetMethodDefinition).Where(static m => m.RelativeVirtualAddress != 0))
            yield return (NameOf(metadata, definition), file.GetMethodBody(definition.RelativeVirtualAddress).ExceptionRegions.Length);
    }

    private static string NameOf(MetadataReader metadata, MethodDefinition method)
    {
        var parameters = method.GetParameters().Select(p => metadata.GetString(metadata.GetParameter(p).Name));
        var name = $"{metadata.GetString(method.Name)}({string.Join(", ", parameters)})";
        for (var handle = method.GetDeclaringType(); !handle.IsNil;)
        {
            var type = metadata.GetTypeDefinition(handle);
            name = $"{metadata.GetString(type.Namespace)}.{metadata.GetString(type.Name)}.{name}";
            handle = type.GetDeclaringType();
        }

        return name;
    }
}
