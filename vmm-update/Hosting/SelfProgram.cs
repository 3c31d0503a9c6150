namespace CprSharp.VmmUpdate.Hosting;

/// <summary>How this program is started once more.</summary>
internal static class SelfProgram
{
    public static (string Path, string[] Arguments) Command(params string[] arguments)
    {
        var program = Environment.ProcessPath ?? "/proc/self/exe";
        return Path.GetFileName(program) == "dotnet"
            ? (program, [Environment.GetCommandLineArgs()[0], .. arguments])
            : (program, arguments);
    }
}
