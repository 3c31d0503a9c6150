using Xunit;

namespace CprSharp.Iommufd.Tests.Kernel;

/// <summary>One after the other: these tests share a device, what the process has pinned, and its descriptor table.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class KernelCollection
{
    internal const string Name = "kernel";
}
