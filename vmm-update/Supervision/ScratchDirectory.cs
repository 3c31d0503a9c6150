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

    public static ScratchDirectory Create() => new(System.IO.Directory.CreateTempSubdirectory(Prefix(Environment.ProcessId)).FullName);

    /// <summary>Ends and removes what a supervisor left that was killed while it asked. Nothing happens if a process that runs has its PID.</summary>
    public static void RemoveOf(int supervisor)
    {
        // A zombie has no executable any more.
        if (new FileInfo($"/proc/{supervisor}/exe").LinkTarget is not null)
            return;

        foreach (var root in System.IO.Directory.EnumerateDirectories(Path.GetTempPath(), Prefix(supervisor) + "*"))
        {
            StrayVmms.EndIn(root);
            System.IO.Directory.Delete(root, recursive: true);
        }
    }

    private static string Prefix(int process) => $"cprsharp-{process}-";

    public void Dispose() => System.IO.Directory.Delete(_root, recursive: true);
}
