using System.Text.Json;

namespace CprSharp.SystemTests.Harness;

/// <summary>One update of many.</summary>
/// <param name="To">The binary.</param>
/// <param name="Engine">The engine, which must fit the two binaries.</param>
/// <param name="Fault">A fault point at which it fails with the guest still on the old VMM; null if it shall succeed.</param>
internal sealed record UpdateStep(string To, string Engine, string? Fault)
{
    /// <summary>Makes the update, and expects that it ends as it must.</summary>
    /// <returns>Its pause; null if there was none.</returns>
    public async Task<double?> RunAsync(TestVm vm)
    {
        using var update = vm.StartUpdate(To, Engine, Fault);
        var result = await update.ResultAsync();
        Assert.True(Fault is null ? result.ExitCode == 0 : result.ExitCode is 1 or 4, $"{this}: {result}\n{vm.Logs()}");
        return result.Document.GetProperty("pauseMs") is { ValueKind: JsonValueKind.Number } pause ? pause.GetDouble() : null;
    }
}

/// <summary>What the tests that keep something going over many updates have in common.</summary>
internal static class UpdateSchedule
{
    /// <summary>How many; more in <c>make soak</c>.</summary>
    public static int Length => int.TryParse(Environment.GetEnvironmentVariable("CPRSHARP_TEST_UPDATES"), out var updates) ? updates : 20;

    /// <summary>Both engines, forwards and backwards between two versions; every fifth fails, at the fault points in turn.</summary>
    public static IEnumerable<UpdateStep> Of(params string[] faults) => Enumerable.Range(0, Length).Select(i =>
    {
        var (to, engine) = (i % 4) switch
        {
            0 or 2 => (Components.Qemu111, "transfer"),
            1 => (Components.Qemu100, "shared-ram"),
            _ => (Components.Qemu111, "shared-ram"),
        };
        return new UpdateStep(to, engine, i % 5 == 4 ? faults[i / 5 % faults.Length] : null);
    });
}
