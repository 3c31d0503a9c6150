namespace CprSharp.VmmUpdate.Engines;

/// <summary>The engines there are. The one place that names them.</summary>
internal static class EngineCatalog
{
    public static IReadOnlyList<IEngine> Create() => [new TransferEngine(), new SharedRamEngine(), new ExecEngine()];
}
