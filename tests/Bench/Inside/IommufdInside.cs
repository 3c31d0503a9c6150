using System.Diagnostics;
using System.Globalization;
using CprSharp.Iommufd;
using CprSharp.Iommufd.Journal;
using CprSharp.Memfd;
using Microsoft.Win32.SafeHandles;
using MemoryFile = CprSharp.Memfd.Memfd;

namespace CprSharp.Bench.Inside;

/// <summary>What is measured in the virtual host, where there is an IOMMU: the library and a C program make the same calls in turns.</summary>
internal sealed class IommufdInside(string peer, int rounds, int roundsOfAPoint)
{
    /// <summary>The program's first argument for this.</summary>
    public const string Command = "iommufd-inside";

    /// <summary>Where the first area is, as in iommufd-cost.c: above what VT-d reserves.</summary>
    public const ulong Start = 1UL << 32;

    private const ulong Page = 4096;
    private const ulong HugePage = 2 << 20;
    private const ulong BytesInAreas = 10_000 * Page;
    private const int MapsInBlock = 2000;
    private const int CallsInBlock = 2 * MapsInBlock + 2;
    private static readonly int[] Areas = [1, 10, 100, 1000, 10_000];
    private static readonly ulong[] Gibibytes = [1, 2, 4, 8];

    private readonly List<Timing> _timings = [];

    /// <summary>Measures, and leaves the timings in a file.</summary>
    /// <param name="arguments">The C program, rounds, rounds of a point of a growth curve, the file.</param>
    public static async Task RunAsync(IReadOnlyList<string> arguments)
    {
        var inside = new IommufdInside(
            arguments[0], int.Parse(arguments[1], CultureInfo.InvariantCulture), int.Parse(arguments[2], CultureInfo.InvariantCulture));
        await inside.MeasureAsync();
        Timing.Write(arguments[3], inside._timings);
    }

    private async Task MeasureAsync()
    {
        using var context = IommufdContext.Open();
        var ioas = context.AllocateIoas();
        await CallsAsync(context, ioas);
        using var device = VfioDevice.OpenPci(Environment.GetEnvironmentVariable("CPRSHARP_EDU")!);
        device.Attach(device.Bind(context), ioas);
        Point[] sizes = [.. Gibibytes.Select(count => new Point($"{count} GiB", 1, count << 30))];
        await CurveAsync(context, ioas, "areas", null, [.. Areas.Select(areas => new Point($"{areas}", areas, BytesInAreas))], rounds);
        await CurveAsync(context, ioas, "4 KiB", null, sizes, roundsOfAPoint);
        // The memory that had ordinary pages is free again.
        var huge = Reserve(sizes[^1].Bytes / HugePage) * HugePage;
        await CurveAsync(context, ioas, "2 MiB", (long)HugePage, [.. sizes.Where(size => size.Bytes <= huge)], roundsOfAPoint);
    }

    /// <summary>Nothing is attached, so that a call does as little as it can, and what is around it shows most.</summary>
    private async Task CallsAsync(IommufdContext context, IoasId ioas)
    {
        using var memory = MemoryFile.Create("calls", (long)Page);
        await using var c = new CSide(peer, context, ioas, memory);
        (string By, Func<double> Take)[] subjects =
            [("c", () => c.Calls(MapsInBlock)), ("library", () => Calls(memory, journal: false)), ("journal", () => Calls(memory, journal: true))];
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var (by, take) in InTurns(round, subjects))
                Keep(round, new Timing("calls", $"{CallsInBlock}", "call", by, take() / CallsInBlock));
        }

        Console.WriteLine($"{CallsInBlock} calls");
    }

    private static double Calls(SafeFileHandle memory, bool journal)
    {
        using var record = MemoryFile.Create("journal", 0);
        var file = MappableFile.Inspect(memory);
        var begin = Stopwatch.GetTimestamp();
        using (var context = IommufdContext.Open(journal ? JournalWriter.Create(record) : null))
        {
            var ioas = context.AllocateIoas();
            for (var i = 0; i < MapsInBlock; i++)
            {
                context.MapFile(ioas, file, 0, Page, MapAccess.ReadWrite, Start);
                context.Unmap(ioas, IovaRange.Of(Start, Page));
            }

            context.Destroy(ioas);
        }

        return Stopwatch.GetElapsedTime(begin).TotalNanoseconds;
    }

    /// <summary>
    /// Both sides have the same context, with a device attached: memory is pinned and comes into a page table. Whoever maps is the owner, and each of the
    /// two changes that follow moves all of it from one process to another.
    /// </summary>
    private async Task CurveAsync(IommufdContext context, IoasId ioas, string name, long? hugePage, IReadOnlyList<Point> points, int times)
    {
        using var memory = MemoryFile.Create("curve", (long)points.Max(point => point.Bytes), new MemfdOptions { HugePageSize = hugePage });
        await using var c = new CSide(peer, context, ioas, memory);
        ISide[] sides = [c, new LibrarySide(context, ioas, memory)];
        foreach (var point in points)
        {
            for (var round = 0; round <= times; round++)
            {
                foreach (var side in InTurns(round, sides))
                {
                    var other = sides.Single(s => s != side);
                    Keep(round, new Timing(name, point.Name, "map", side.By, side.Map(point.Areas, point.Bytes)));
                    Keep(round, new Timing(name, point.Name, "change", other.By, other.TakeOver()));
                    Keep(round, new Timing(name, point.Name, "change", side.By, side.TakeOver()));
                    context.Unmap(ioas, IovaRange.All);
                }
            }

            Console.WriteLine($"{name}: {point.Name}");
        }
    }

    /// <returns>How many huge pages there are now: fewer, where memory is in pieces.</returns>
    private static ulong Reserve(ulong hugePages)
    {
        const string path = "/proc/sys/vm/nr_hugepages";
        File.WriteAllText(path, hugePages.ToString(CultureInfo.InvariantCulture));
        var reserved = ulong.Parse(File.ReadAllText(path), CultureInfo.InvariantCulture);
        if (reserved < hugePages)
            Console.WriteLine($"there are {reserved} huge pages of {hugePages}; the sizes beyond are left out");
        return reserved;
    }

    private static IEnumerable<T> InTurns<T>(int round, IReadOnlyList<T> all) => round % 2 == 0 ? all : all.Reverse();

    /// <summary>The first round is not counted: it finds memory and code that nobody has touched yet.</summary>
    private void Keep(int round, Timing timing)
    {
        if (round > 0)
            _timings.Add(timing);
    }

    private sealed record Point(string Name, int Areas, ulong Bytes);
}
