namespace CprSharp.Memfd.Tests;

internal sealed class TemporaryDirectory : IDisposable
{
    internal string Path { get; } = Directory.CreateTempSubdirectory("memfd-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
