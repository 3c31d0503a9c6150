namespace CprSharp.VmmUpdate.Engines;

/// <summary>The engines there are. The one place that names them.</summary>
internal static class EngineCatalog
{
    public static IReadOnlyList<IUpdateEngine> Create() => [new TransferEngine(), new SharedRamEngine()];
}
