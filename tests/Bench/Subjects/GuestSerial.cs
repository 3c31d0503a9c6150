using System.Diagnostics;

namespace CprSharp.Bench.Subjects;

/// <summary>The serial line on which the guest's workload says that it is up.</summary>
internal static class GuestSerial
{
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(300);

    public static string[] Arguments(VmShape shape, string file) =>
        shape.BootsLinux ? ["-chardev", $"file,id=serial0,path={file},append=on", "-serial", "chardev:serial0"] : [];

    public static async Task WaitUntilReadyAsync(string file)
    {
        var clock = Stopwatch.StartNew();
        while (!File.Exists(file) || !(await File.ReadAllTextAsync(file)).Contains("CPRSHARP ready", StringComparison.Ordinal))
        {
            if (clock.Elapsed > Longest)
                throw new TimeoutException($"the guest did not report within {Longest.TotalSeconds} s that it is up: {file}");
            await Task.Delay(100);
        }
    }
}
