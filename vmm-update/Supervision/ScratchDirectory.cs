namespace CprSharp.VmmUpdate.Supervision;

/// <summary>A directory for processes that are started only to be asked something; gone when disposed.</summary>
internal sealed class ScratchDirectory : IDisposable
{
    private readonly string _root;

    private ScratchDirectory(string root)
    {
        _root = root;
        Directory = new VmDirectory(root, "probe");
        Directory.Create();
    }

    public VmDirectory Directory { get; }

    public static ScratchDirectory Create() => new(System.IO.Directory.CreateTempSubdirectory("cprsharp-").FullName);

    public void Dispose() => System.IO.Directory.Delete(_root, recursive: true);
}
