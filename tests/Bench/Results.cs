using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace CprSharp.Bench;

/// <summary>Prints each figure as it is known, and keeps all for the JSON document.</summary>
internal sealed class Results(TextWriter output)
{
    private readonly JsonObject _document = new() { ["schema"] = 1 };

    public void Heading(string text)
    {
        output.WriteLine();
        output.WriteLine(text);
    }

    public void Note(string text) => output.WriteLine($"  {text}");

    /// <summary>A row of a table; numbers are right-aligned.</summary>
    public void Row(string name, params object[] cells)
    {
        output.Write($"  {name,-42}");
        foreach (var cell in cells)
        {
            output.Write(cell is double number
                ? $"{number.ToString(Math.Abs(number) < 10 ? "0.00" : Math.Abs(number) < 1000 ? "0.0" : "0", CultureInfo.InvariantCulture),12}"
                : $"{cell,12}");
        }

        output.WriteLine();
        output.Flush();
    }

    /// <summary>Keeps a figure under a path such as <c>pause/small/transfer</c>.</summary>
    public void Keep(string path, JsonNode value)
    {
        var parts = path.Split('/');
        var place = _document;
        foreach (var part in parts[..^1])
        {
            if (place[part] is not JsonObject next)
                place[part] = next = [];
            place = next;
        }

        place[parts[^1]] = value;
    }

    public void Save(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        File.WriteAllText(path, _document.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
    }
}
