using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using CprSharp.SystemTests.Harness;

namespace CprSharp.SystemTests;

/// <summary>Updates under random faults, for as long as it is told (<c>make soak MINUTES=… SEED=…</c>).</summary>
public sealed class SoakTests(ITestOutputHelper output)
{
    private readonly List<double> _pauses = [];
    private readonly Dictionary<string, int> _outcomes = new(StringComparer.Ordinal);
    private (int Supervisor, IReadOnlyDictionary<string, int> Descriptors)? _before;

    private static int Number(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : otherwise;

    [Fact(Explicit = true)]
    public async Task TheGuestSurvivesRandomFaults()
    {
        var seed = Number("SEED", Random.Shared.Next());
        var length = TimeSpan.FromMinutes(Number("MINUTES", 15));
        var random = new Random(seed);
        await using var host = new TestHost();
        var guest = new LinuxGuest(host);
        var vm = await TestVm.StartAsync(
            host, "soak", [Components.Qemu111, .. guest.Arguments(), "-M", "pc-q35-10.0", "-m", "256", "-device", "virtio-blk-pci,drive=disk"],
            new Dictionary<string, string>(StringComparer.Ordinal) { ["CPRSHARP__Update__PauseDeadlineMs"] = "4000", ["CPRSHARP__Update__PrepareDeadlineSeconds"] = "20" });
        await guest.ReadyAsync();
        var rounds = 0;
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < length; rounds++)
        {
            var round = SoakRound.Draw(random, vm.Record.GetProperty("binary").GetString()!);
            try
            {
                var outcome = await RunAsync(vm, round);
                await WholeAsync(vm);
                await guest.GoesOnAsync();
                await guest.ExpectUnharmedAsync();
                _outcomes[outcome] = _outcomes.GetValueOrDefault(outcome) + 1;
                Note($"{watch.Elapsed:mm\\:ss} {rounds}: {round}: {outcome}");
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"SEED={seed}, round {rounds}, {round}: {e.Message}\n{Summary(rounds)}\n{vm.Logs()}", e);
            }
        }

        await guest.ExpectWholeDiskAsync();
        await guest.AskAsync("poweroff", "poweroff");
        await host.ExpectNothingLeftAsync();
        Note($"SEED={seed}: {Summary(rounds)}; guests lost: 0; left behind (processes, sockets, descriptors, files): nothing");
    }

    /// <returns>How it ended, for the count.</returns>
    private async Task<string> RunAsync(TestVm vm, SoakRound round)
    {
        using var update = vm.StartUpdate(round.To, round.Engine, round.Fault);
        if (round.Victim != SoakVictim.None)
        {
            await Task.Delay(round.KillAfter);
            await KillAsync(vm, round.Victim, update);
        }

        var result = await update.ResultAsync();
        if (round.Victim == SoakVictim.Client && result.Output.Length == 0)
            return "client killed";
        Assert.True(round.ExitCodes.Contains(result.ExitCode), $"exit code {string.Join(" or ", round.ExitCodes)} was expected: {result}");
        if (result.Document.TryGetProperty("pauseMs", out var pause) && pause.ValueKind == JsonValueKind.Number)
            _pauses.Add(pause.GetDouble());
        return $"exit {result.ExitCode}";
    }

    /// <remarks>The VMM that the record names runs the guest, as every round's end has seen, and behind the fault of a round that kills the new one goes on to.</remarks>
    private static async Task KillAsync(TestVm vm, SoakVictim victim, RunningProgram update)
    {
        var processes = vm.Host.Processes();
        var pid = victim switch
        {
            SoakVictim.Client => update.Pid,
            SoakVictim.Supervisor => vm.SupervisorPid,
            SoakVictim.Guardian => processes.FirstOrDefault(p => p.IsGuardian)?.Pid,
            _ => processes.FirstOrDefault(p => p.IsVmm && p.Pid != vm.VmmPid)?.Pid,
        };
        if (pid is { } there)
            await TestHost.EndAsync(there);
    }

    /// <summary>One VMM, one supervisor, one guardian, no update under way; and the supervisor has no more descriptors than it had.</summary>
    private async Task WholeAsync(TestVm vm)
    {
        await Deadlines.EventuallyAsync(async () =>
        {
            try
            {
                if (!vm.Host.Processes().Any(p => p.IsGuardian))
                    return "there is no guardian";
                var status = await vm.QmpAsync("__org.cprsharp_status");
                return status.TryGetProperty("updateUnderWay", out var phase) && phase.ValueKind == JsonValueKind.String ? $"the update is still in {phase}" : null;
            }
            catch (Exception e) when (e is IOException or TimeoutException)
            {
                return $"nobody serves the VM: {e.Message}";
            }
        }, Deadlines.Program);
        await vm.ExpectOneRunningVmmAsync();
        if (_before is not { } before || before.Supervisor != vm.SupervisorPid)
        {
            // What the first updates make once and keep is no leak.
            await new UpdateStep(Components.Qemu111, "shared-ram", null).RunAsync(vm);
            await new UpdateStep(Components.Qemu111, "transfer", null).RunAsync(vm);
            _before = (vm.SupervisorPid, vm.SupervisorDescriptors());
        }
        else
        {
            await vm.ExpectNoMoreDescriptorsAsync(before.Descriptors);
        }
    }

    private string Summary(int rounds)
    {
        var sorted = _pauses.Order().ToArray();
        var pauses = sorted.Length == 0 ? "none" : $"median {sorted[sorted.Length / 2]:0.0} ms, longest {sorted[^1]:0.0} ms";
        return $"{rounds} rounds ({string.Join(", ", _outcomes.OrderBy(o => o.Key, StringComparer.Ordinal).Select(o => $"{o.Key}: {o.Value}"))}); {_pauses.Count} pauses, {pauses}";
    }

    /// <summary>Into a file as well, if one is named: a test's output is seen only at its end.</summary>
    private void Note(string line)
    {
        output.WriteLine(line);
        if (Environment.GetEnvironmentVariable("CPRSHARP_SOAK_LOG") is { Length: > 0 } log)
            File.AppendAllText(log, line + "\n");
    }
}
