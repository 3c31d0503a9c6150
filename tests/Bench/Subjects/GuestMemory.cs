using CprSharp.Memfd;

namespace CprSharp.Bench.Subjects;

/// <summary>Gives a guest's RAM pages without changing what is in them.</summary>
internal static class GuestMemory
{
    private const int Step = 2 << 20;

    /// <summary>Reads a byte in every 2 MiB of the memfd that is the guest's RAM; shared memory gets a page for that.</summary>
    public static void TouchSparsely(int qemuPid, int mebibytes)
    {
        var size = (nuint)mebibytes << 20;
        foreach (var path in Directory.EnumerateFiles($"/proc/{qemuPid}/fd"))
        {
            if (!IsMemfd(path))
                continue;
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            if (RandomAccess.GetLength(file) != (long)size)
                continue;
            using var mapping = MemoryMapping.Map(file, 0, size, MappingProtection.Read);
            var sum = 0;
            for (nuint place = 0; place < size; place += Step)
                sum += mapping.AsSpan(place, 1)[0];
            GC.KeepAlive(sum);
            return;
        }

        throw new InvalidOperationException($"process {qemuPid} has no memfd of {mebibytes} MiB");
    }

    private static bool IsMemfd(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget?.StartsWith("/memfd:", StringComparison.Ordinal) == true;
        }
        catch (IOException)
        {
            return false; // closed since it was listed
        }
    }
}
