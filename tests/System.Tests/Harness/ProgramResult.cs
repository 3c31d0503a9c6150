using System.Text.Json;

namespace CprSharp.SystemTests.Harness;

/// <summary>What a run of a program left behind.</summary>
internal sealed record ProgramResult(string Command, int ExitCode, string Output, string Errors, TimeSpan Took)
{
    /// <summary>The one JSON document on standard output.</summary>
    public JsonElement Document
    {
        get
        {
            try
            {
                using var document = JsonDocument.Parse(Output);
                return document.RootElement.Clone();
            }
            catch (JsonException e)
            {
                throw new InvalidOperationException($"standard output is not one JSON document ({e.Message}): {this}");
            }
        }
    }

    public ProgramResult Expect(int exitCode)
    {
        Assert.True(ExitCode == exitCode, $"exit code {exitCode} was expected: {this}");
        return this;
    }

    public override string ToString() => $"\n$ {Command}\nexit code {ExitCode} after {Took.TotalSeconds:0.0} s\n--- stdout\n{Output}\n--- stderr\n{Errors}\n---";
}
