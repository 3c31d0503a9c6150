using System.Globalization;

namespace CprSharp.Tests;

/// <summary>Inputs made from good ones: each test project compiles this file.</summary>
internal static class Fuzz
{
    /// <summary>More in a run of its own: <c>CPRSHARP_FUZZ_CASES</c>.</summary>
    public static int Cases(int few) =>
        int.TryParse(Environment.GetEnvironmentVariable("CPRSHARP_FUZZ_CASES"), NumberStyles.None, CultureInfo.InvariantCulture, out var cases) ? cases : few;

    /// <summary>Runs an action for so many cases, and says with which seed one failed.</summary>
    public static void Run(int few, Action<Random> action)
    {
        var first = int.TryParse(Environment.GetEnvironmentVariable("CPRSHARP_FUZZ_SEED"), NumberStyles.None, CultureInfo.InvariantCulture, out var seed) ? seed : Environment.TickCount & int.MaxValue;
        for (var i = 0; i < Cases(few); i++)
        {
            try
            {
                action(new Random(unchecked(first + i)));
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"with CPRSHARP_FUZZ_SEED={unchecked(first + i)}: {e.Message}", e);
            }
        }
    }

    /// <summary>Bytes changed, left out, doubled, swapped for others, or joined with another input.</summary>
    public static byte[] Mutate(Random random, IReadOnlyList<byte[]> corpus)
    {
        List<byte> bytes = [.. corpus[random.Next(corpus.Count)]];
        for (var changes = random.Next(1, 8); changes > 0; changes--)
        {
            var at = random.Next(bytes.Count + 1);
            var length = Math.Min(random.Next(1, 16), bytes.Count - at);
            switch (random.Next(7))
            {
                case 0 when at < bytes.Count:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes.RemoveRange(at, length);
                    break;
                case 2:
                    bytes.InsertRange(at, bytes.GetRange(at, length));
                    break;
                case 3:
                    bytes.InsertRange(at, Enumerable.Range(0, random.Next(1, 9)).Select(_ => (byte)random.Next(256)));
                    break;
                case 4 when at + 4 <= bytes.Count:
                    byte[] number = BitConverter.GetBytes(random.Next(4) switch { 0 => 0, 1 => -1, 2 => int.MaxValue, _ => random.Next() });
                    for (var i = 0; i < 4; i++)
                        bytes[at + i] = number[i];
                    break;
                case 5:
                    var other = corpus[random.Next(corpus.Count)];
                    var from = random.Next(other.Length + 1);
                    bytes.InsertRange(at, other[from..Math.Min(other.Length, from + random.Next(64))]);
                    break;
                default:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
            }
        }

        return [.. bytes];
    }
}
